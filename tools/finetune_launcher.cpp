// finetune(), preview() and measure_fisher() of the small binary: it becomes lapidary-finetune,
// which stands beside it.
//
// LibTorch takes 0.4 s to load and 110 MB, whatever the command; so only the process that trains
// loads it. The other binary is built from the same sources with the real finetune() in this one's
// place.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "finetune/finetune.h"
#include "finetune/fisher.h"
#include "finetune/preview.h"
#include "formats/error.h"

namespace lapidary {
namespace {

// The arguments of this process as the kernel keeps them: strings that end in zero.
std::vector<std::string> own_arguments() {
  std::ifstream in("/proc/self/cmdline", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  std::vector<std::string> arguments;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = std::min(bytes.find('\0', begin), bytes.size());
    arguments.push_back(bytes.substr(begin, end - begin));
    begin = end + 1;
  }
  return arguments;
}

}  // namespace

namespace {

[[noreturn]] void become_finetune() {
  std::error_code ignored;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const std::string program = self.parent_path() / "lapidary-finetune";
  std::vector<std::string> arguments = own_arguments();
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  fail(ErrorCode::kNotFound,
       "{}: cannot start: {}; it is built beside lapidary when LibTorch is found", program,
       std::strerror(errno));
}

}  // namespace

FinetuneReport finetune(const FinetuneOptions&, const Events&) { become_finetune(); }
std::vector<PreviewExample> preview(const FinetuneOptions&, int64_t) { become_finetune(); }
FisherStatistics measure_fisher(std::shared_ptr<const Model>, const FisherOptions&, const Events&) {
  become_finetune();
}

}  // namespace lapidary
