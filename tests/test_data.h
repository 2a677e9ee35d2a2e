// Where tests find their files: tests/data in the clone, and the larger checkpoints outside it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace lapidary {

inline std::string source_path(const std::string& name) {
  return std::string(LAPIDARY_SOURCE_DIR) + "/" + name;
}
inline std::string data_path(const std::string& name) { return source_path("tests/data/" + name); }

// A file or folder under LAPIDARY_SHARED (default ../shared beside the clone); empty when absent.
inline std::string shared_path(const std::string& name) {
  const char* root = std::getenv("LAPIDARY_SHARED");
  const std::string path = (root ? std::string(root) : source_path("../shared")) + "/" + name;
  return std::filesystem::exists(path) ? path : std::string();
}
#define LAPIDARY_SKIP_WITHOUT(path) \
  if ((path).empty()) GTEST_SKIP() << "needs a checkpoint outside the clone (LAPIDARY_SHARED)"

// A fresh folder, removed at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "lapidary-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace lapidary
