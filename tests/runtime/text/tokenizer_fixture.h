// Tokenizers for the tests: the checkpoint's, the real ones outside the clone, and small ones
// written down in a test.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "formats/file.h"
#include "runtime/text/tokenizer.h"
#include "tests/test_data.h"

namespace lapidary {

inline constexpr int64_t kNanoVocab = 8192;

inline const std::string& nano_json() {
  static const std::string text = read_text(data_path("nano-e/tokenizer.json"));
  return text;
}
inline const Tokenizer& nano_tokenizer() {
  static const Tokenizer tokenizer = Tokenizer::from_json(nano_json(), kNanoVocab);
  return tokenizer;
}

// What `xz -dc` writes, or empty.
inline std::string decompress_xz(const std::string& path) {
  const std::string command = "xz -dc '" + path + "'";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string out;
  std::vector<char> buffer(1 << 16);
  for (size_t n; pipe && (n = fread(buffer.data(), 1, buffer.size(), pipe.get())) > 0;)
    out.append(buffer.data(), n);
  return out;
}

using Ids = std::vector<int32_t>;

}  // namespace lapidary
