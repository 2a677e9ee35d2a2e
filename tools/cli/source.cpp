// A folder is a checkpoint, a file is a .lap or a GGUF model; anything else is said plainly.
#include "tools/cli/source.h"

#include <sys/resource.h>

#include <array>
#include <fstream>

#include "convert/gguf_source.h"
#include "convert/hf_source.h"
#include "formats/error.h"
#include "formats/file.h"
#include "formats/json_guard.h"
#include "formats/lap.h"

namespace lapidary {

std::unique_ptr<ModelSource> open_source(const std::string& path) {
  if (!path_exists(path))
    fail(ErrorCode::kNotFound,
         "'{}': no such file or folder; give a Hugging Face folder, a .lap or a .gguf file", path);
  if (is_folder(path)) return HfSource::open(path);
  if (is_gguf(path)) return GgufSource::open(path);
  return LapReader::open(path);
}

bool is_gguf(const std::string& path) {
  if (is_folder(path)) return false;
  std::array<char, 4> magic{};
  std::ifstream(path, std::ios::binary).read(magic.data(), magic.size());
  return std::string_view(magic.data(), magic.size()) == "GGUF";
}

std::string read_json(const std::string& path) {
  std::string text = read_text(path);
  guard_json(text, path);
  return text;
}

uint64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;  // Linux counts in KiB
}

}  // namespace lapidary
