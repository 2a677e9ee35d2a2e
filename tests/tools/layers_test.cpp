// The direction of dependency, enforced: every #include of the tree is read and checked against the
// map in docs/tour.md. What decays first in a codebase is this, so a machine watches it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "tests/test_data.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

struct Include {
  std::string file;    // relative to the root
  std::string target;  // as written
};

const std::map<std::string, std::set<std::string>> kMayInclude{
    {"formats", {"formats"}},
    {"kernels", {"kernels", "formats"}},
    {"convert", {"convert", "kernels", "formats"}},
    {"export", {"export", "kernels", "formats"}},
    {"runtime", {"runtime", "kernels", "formats"}},
    {"quantize", {"quantize", "runtime", "kernels", "formats"}},
    {"finetune", {"finetune", "runtime", "kernels", "formats"}},
    {"tools",
     {"tools", "finetune", "quantize", "runtime", "convert", "export", "kernels", "formats"}},
};

// A third-party header and the only place that may include it.
struct Home {
  std::regex header;
  std::regex files;
  const char* what;
};
const std::vector<Home>& homes() {
  static const std::vector<Home> list{
      {std::regex("(torch|ATen|c10)/.*"), std::regex("(finetune|tests/finetune)/.*"), "LibTorch"},
      {std::regex("boost/.*"), std::regex("runtime/server/.*"), "Boost"},
      {std::regex("cuda.*|cublas.*"), std::regex("kernels/cuda/.*"), "CUDA"},
      {std::regex("CLI/.*"), std::regex("(tools|tests/tools)/.*"), "CLI11"},
      {std::regex("nlohmann/.*|toml\\+\\+/.*"), std::regex(".*\\.cpp"), "JSON and TOML"},
  };
  return list;
}

std::string folder_of(const std::string& path) { return path.substr(0, path.find('/')); }

std::vector<std::string> source_files() {
  std::vector<std::string> files;
  const fs::path root(source_path(""));
  for (const char* folder : {"formats", "kernels", "convert", "export", "runtime", "quantize",
                             "finetune", "tools", "tests"})
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension();
      if (extension == ".h" || extension == ".cpp")
        files.push_back(fs::relative(entry.path(), root).string());
    }
  return files;
}

std::vector<Include> all_includes() {
  static const std::regex pattern(R"re(^\s*#\s*include\s*[<"]([^>"]+)[>"])re");
  std::vector<Include> includes;
  for (const std::string& file : source_files()) {
    std::ifstream in(source_path(file));
    std::smatch match;
    for (std::string line; std::getline(in, line);)
      if (std::regex_search(line, match, pattern)) includes.push_back({file, match[1]});
  }
  return includes;
}

TEST(Layers, TheTreeIsThere) { EXPECT_GT(source_files().size(), 50u); }

TEST(Layers, EveryIncludeFollowsTheDirection) {
  for (const Include& include : all_includes()) {
    const std::string from = folder_of(include.file), to = folder_of(include.target);
    if (!kMayInclude.count(to) || !kMayInclude.count(from)) continue;
    EXPECT_TRUE(kMayInclude.at(from).count(to))
        << include.file << " includes " << include.target << ": " << from << " may not see " << to;
  }
}

TEST(Layers, ProductCodeNeverIncludesTests) {
  for (const Include& include : all_includes()) {
    if (folder_of(include.file) != "tests") {
      EXPECT_NE(folder_of(include.target), "tests") << include.file;
    }
  }
}

TEST(Layers, ThirdPartyHeadersStayInTheirHomes) {
  for (const Include& include : all_includes())
    for (const Home& home : homes())
      if (std::regex_match(include.target, home.header)) {
        EXPECT_TRUE(std::regex_match(include.file, home.files))
            << include.file << " includes " << include.target << ", outside the home of "
            << home.what;
      }
}

TEST(Layers, IncludesAreRootedAtTheTree) {
  for (const Include& include : all_includes())
    EXPECT_EQ(include.target.find(".."), std::string::npos)
        << include.file << " includes " << include.target;
}

TEST(Layers, NoFileIsOver600LinesAndEachOpensWithItsReason) {
  for (const std::string& file : source_files()) {
    std::ifstream in(source_path(file));
    std::string first, line;
    std::getline(in, first);
    int lines = 1;
    while (std::getline(in, line)) ++lines;
    EXPECT_LE(lines, 600) << file;
    EXPECT_EQ(first.substr(0, 2), "//") << file << " should open with why it exists";
  }
}

}  // namespace
}  // namespace lapidary
