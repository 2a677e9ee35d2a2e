// Every file in recipes/ works: quantize recipes make a small model and keep their budget, finetune
// recipes at least parse against the command's options.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "formats/file.h"
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
  ASSERT_EQ(lapidary_command({"convert", data_path("nano-e"), "-o", model}).status, 0);
  int n_recipes = 0;
  for (const auto& entry : fs::directory_iterator(source_path("recipes"))) {
    if (entry.path().extension() != ".toml") continue;
    ++n_recipes;
    const std::string recipe = entry.path().string();
    if (command_of(recipe) == "quantize") {
      // Fewer tokens and no searches: what is tested is the recipe.
      std::vector<std::string> command{"quantize", model,  "-o",     folder.file("q.lap"),
                                       "--recipe", recipe, "--json", "--quiet"};
      const bool has_budget = read_text(recipe).find("\ntarget-") != std::string::npos;
      if (has_budget)
        command.insert(command.end(), {"--probe-tokens", "250", "--codes", "w3,w4,w5,w6,w8"});
      const Outcome o = lapidary_command(command);
      EXPECT_EQ(o.status, 0) << recipe << ": " << o.err;
      EXPECT_EQ(o.out.find("\"allocation\"") != std::string::npos, has_budget) << recipe;
      EXPECT_LT(fs::file_size(folder.file("q.lap")), fs::file_size(model) * 6 / 10) << recipe;
    } else {
      ASSERT_EQ(command_of(recipe), "finetune") << recipe;
      // Built without LibTorch there is no such command, and --help shows the others.
      if (lapidary_command({"finetune", "--help"}).out.find("--recipe") == std::string::npos)
        continue;
      // The data file does not exist, so a recipe that fits the options gets as far as that.
      const Outcome o = lapidary_command({"finetune", model, "--recipe", recipe, "--data",
                                          folder.file("none.jsonl"), "-o", folder.file("out")});
      EXPECT_EQ(o.status, 66) << recipe << ": " << o.err;
    }
  }
  EXPECT_GE(n_recipes, 7);
}

}  // namespace
}  // namespace lapidary
