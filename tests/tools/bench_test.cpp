// lapidary bench as a user meets it: a small synthetic file is written, opens, runs and is
// measured.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/test_data.h"
#include "tests/tools/command_runner.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

class Bench : public ::testing::Test {
 protected:
  // One attention period of the smallest shape: 100 MB.
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const Outcome o =
        lapidary_command({"bench", "--synthetic", "e2b", "--layers", "5", "--vocab", "512",
                          "--weights", "w4", "-o", folder_->file("m.lap"), "--json"});
    ASSERT_EQ(o.status, 0) << o.err;
    written_ = nlohmann::json::parse(o.out);
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string model() { return folder_->file("m.lap"); }

  static TemporaryFolder* folder_;
  static nlohmann::json written_;
};
TemporaryFolder* Bench::folder_ = nullptr;
nlohmann::json Bench::written_;

TEST_F(Bench, SyntheticFileIsWholeAndGenerates) {
  EXPECT_EQ(written_["file_bytes"], fs::file_size(model()));
  EXPECT_GT(written_["bits_per_weight"], 4.1);
  EXPECT_LT(written_["bits_per_weight"], 4.5);
  EXPECT_EQ(lapidary_command({"inspect", model(), "--verify", "--quiet", "--summary"}).status, 0);
  const Outcome o = lapidary_command(
      {"run", model(), "--raw", "--greedy", "-p", "Any text", "--max-tokens", "5", "--json"});
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(nlohmann::json::parse(o.out)["tokens"].size(), 5u);  // it never stops by itself
}

TEST_F(Bench, WrongSyntheticOptionsAre64) {
  const std::string output = folder_->file("x.lap");
  expect_error(lapidary_command({"bench", "--synthetic", "e3b", "-o", output}), 64, "26b-a4b");
  expect_error(lapidary_command({"bench", "--synthetic", "e2b", "--weights", "w7", "-o", output}),
               64, "w7");
  expect_error(lapidary_command({"bench", "--synthetic", "e2b", "--layers", "99", "-o", output}),
               64, "99");
  expect_error(lapidary_command({"bench", "--synthetic", "e2b"}), 64, "-o");
  EXPECT_FALSE(fs::exists(output));
}

}  // namespace
}  // namespace lapidary
