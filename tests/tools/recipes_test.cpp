// Every file in recipes/ works: quantize recipes make a small model, finetune recipes at least
// parse against the command's options.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/test_data.h"
#include "tests/tools/command_runner.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

// The first comment of a recipe names its command: "# quantize: ...".
std::string command_of(const std::string& path) {
  std::ifstream in(path);
  std::string first;
  std::getline(in, first);
  return first.substr(2, first.find(':') - 2);
}

TEST(Recipes, EachOneRunsOnASmallModel) {
  TemporaryFolder folder;
  const std::string model = folder.file("m.lap");
  ASSERT_EQ(lapidary_command({"convert", data_path("tiny-gemma4-omni"), "-o", model}).status, 0);
  int n_recipes = 0;
  for (const auto& entry : fs::directory_iterator(source_path("recipes"))) {
    if (entry.path().extension() != ".toml") continue;
    ++n_recipes;
    const std::string recipe = entry.path().string();
    if (command_of(recipe) == "quantize") {
      const Outcome o =
          lapidary_command({"quantize", model, "-o", folder.file("q.lap"), "--recipe", recipe});
      EXPECT_EQ(o.status, 0) << recipe << ": " << o.err;
    } else {
      ASSERT_EQ(command_of(recipe), "finetune") << recipe;
      if (lapidary_command({"finetune", "--help"}).status != 0) continue;  // built without LibTorch
      // The data file does not exist, so a recipe that fits the options gets as far as that.
      const Outcome o = lapidary_command({"finetune", model, "--recipe", recipe, "--data",
                                          folder.file("none.jsonl"), "-o", folder.file("out")});
      EXPECT_EQ(o.status, 66) << recipe << ": " << o.err;
    }
  }
  EXPECT_GE(n_recipes, 4);
}

}  // namespace
}  // namespace lapidary
