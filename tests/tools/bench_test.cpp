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

TEST_F(Bench, StreamsAreMeasuredTogether) {
  const Outcome o =
      lapidary_command({"bench", model(), "--streams", "3", "--prompt-tokens", "70",
                        "--shared-tokens", "64", "--new-tokens", "4", "--draft", "4", "--json"});
  ASSERT_EQ(o.status, 0) << o.err;
  const auto json = nlohmann::json::parse(o.out);
  EXPECT_EQ(json["streams"], 3);
  EXPECT_EQ(json["cached_tokens"], 128);  // two of three begin behind the first one's page
  for (const char* field : {"tokens_per_second", "step_share", "steps"})
    EXPECT_GT(json[field], 0.0) << field;
  for (const char* field : {"seconds_to_first", "seconds_between"})
    EXPECT_LE(json[field]["median"], json[field]["p99"]) << field;
}

TEST_F(Bench, JsonHasTheFieldsThatScriptsRelyOn) {
  const Outcome o =
      lapidary_command({"bench", model(), "--tests", "pp20,tg2,tg2@d100", "--repetitions", "1",
                        "--threads", "1", "--batch-tokens", "16", "--json"});
  ASSERT_EQ(o.status, 0) << o.err;
  const auto json = nlohmann::json::parse(o.out);
  EXPECT_TRUE(json["cpu"].is_string());
  EXPECT_TRUE(json["isa"].is_string());
  EXPECT_EQ(json["threads"], 1);
  for (const char* field : {"read_gbps", "int8_tops"}) EXPECT_GT(json[field], 0.0) << field;
  ASSERT_EQ(json["results"].size(), 3u);
  EXPECT_EQ(json["results"][2]["test"], "tg2@d100");
  for (const auto& result : json["results"])
    for (const char* field :
         {"tokens_per_second", "bytes_per_token", "share_of_bandwidth", "share_of_int8"})
      EXPECT_GT(result[field], 0.0) << field;
}

TEST_F(Bench, TableNamesTheMachineAndEachTest) {
  const Outcome o = lapidary_command(
      {"bench", model(), "--tests", "pp5,tg1", "--repetitions", "1", "--kv", "f32", "--quiet"});
  ASSERT_EQ(o.status, 0) << o.err;
  for (const char* word : {"GB/s", "TOPS", "threads", "pp5", "tg1", "tokens/s"})
    EXPECT_NE(o.out.find(word), std::string::npos) << word << " in " << o.out;
}

TEST_F(Bench, WrongUsageIs64InOneLine) {
  expect_error(lapidary_command({"bench"}), 64, "M.lap");
  expect_error(lapidary_command({"bench", model(), "--tests", "pp5,zz7"}), 64, "zz7");
  expect_error(lapidary_command({"bench", model(), "--repetitions", "0"}), 64, "repetitions");
  expect_error(lapidary_command({"bench", model(), "--kv", "k9v9"}), 64, "k9v9");
  expect_error(lapidary_command({"bench", model(), "-o", "x.json"}), 64, "--json");
  expect_error(lapidary_command({"bench", model(), "--synthetic", "e2b"}), 64, "without");
  expect_error(lapidary_command({"bench", "/nowhere/m.lap"}), 66, "/nowhere/m.lap");
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
