// KV caches as a user meets them: plans without a model, and options that say what is wrong.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/test_data.h"
#include "tests/tools/command_runner.h"
#include "tests/tools/converted_model.h"

namespace lapidary {
namespace {

class KvCli : public ConvertedModel {};

TEST_F(KvCli, InspectPlansTheSameFromAFileAFolderAndAConfig) {
  std::string first;
  for (const std::string& source :
       {model_, data_path("nano-e"), data_path("nano-e/config.flat.json")}) {
    const Outcome o =
        lapidary_command({"inspect", source, "--context", "8192", "--kv", "k4v4", "--json"});
    ASSERT_EQ(o.status, 0) << o.err;
    if (first.empty()) first = o.out;
    EXPECT_EQ(o.out, first) << source;
  }
  // One global layer of one head of 128: 66 bytes a side instead of 256; 384 tokens are exact.
  const auto json = nlohmann::json::parse(first);
  EXPECT_EQ(json["bytes_per_token_16bit"], 512);
  EXPECT_EQ(json["bytes_per_token"], 132);
  EXPECT_EQ(json["layers_sharing"], 5);
  const auto global = json["layers"][1];
  EXPECT_EQ(global["kind"], "global");
  EXPECT_EQ(global["code"], "k4v4");
  EXPECT_EQ(global["bytes_16bit"], 8192 * 512);
  EXPECT_EQ(global["bytes"], 384 * 512 + (8192 - 384) * 132);
}

TEST_F(KvCli, InspectPrintsATable) {
  const Outcome o = lapidary_command(
      {"inspect", data_path("nano-e/config.json"), "--context", "8192", "--kv", "k8v8"});
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_NE(o.out.find("4 sliding 128, off"), std::string::npos) << o.out;
  EXPECT_NE(o.out.find("1 global, k8v8"), std::string::npos) << o.out;
  EXPECT_NE(o.out.find("5 sharing"), std::string::npos) << o.out;
}

TEST_F(KvCli, BadOptionsAreOneClearLine) {
  const auto inspect = [](std::vector<std::string> options) {
    options.insert(options.begin(), {"inspect", model_, "--context", "8192"});
    return lapidary_command(options);
  };
  expect_error(inspect({"--kv", "k9v9"}), 64, "k9v9");
  expect_error(inspect({"--kv", "k3v8"}), 64, "--force");
  EXPECT_EQ(inspect({"--kv", "k3v8", "--force"}).status, 0);
  expect_error(inspect({"--kv", "k4v4", "--kv-exact", "64,100"}), 64, "multiples of 64");
  expect_error(inspect({"--kv", "k4v4", "--kv-global", "v8"}), 64, "k_eq_v");
  expect_error(inspect({"--kv", "k4v4", "--kv-sliding", "k4v4"}), 64, "--kv-sliding");
  expect_error(inspect({"--kv-exact", "0,0"}), 64, "--kv CODE");
  expect_error(lapidary_command({"inspect", model_, "--kv", "k4v4"}), 64, "--context");
  expect_error(lapidary_command({"inspect", model_, "--context", "0"}), 64, "--context");
  expect_error(lapidary_command({"inspect", "/nowhere/config.json", "--context", "9"}), 66,
               "/nowhere/config.json");
  TemporaryFolder folder;
  std::ofstream(folder.file("config.json")) << "{}";
  expect_error(lapidary_command({"inspect", folder.file("config.json"), "--context", "9"}), 65,
               "config.json");
}

// The same words where a model runs; one refused option each, before or after it is loaded.
TEST_F(KvCli, CommandsRefuseTheSame) {
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"run", model_, "-p", "x", "--kv"},
        {"eval", model_, "--text", data_path("own.txt"), "--kv"},
        {"bench", model_, "--kv"},
        {"verify", model_, model_, "--kv-candidate"}}) {
    const auto with = [&](std::vector<std::string> more) {
      more.insert(more.begin(), command.begin(), command.end());
      return lapidary_command(more);
    };
    expect_error(with({"k9v9"}), 64, "k9v9");
    expect_error(with({"k3v8"}), 64, "--force");
    expect_error(with({"k8v8", "--kv-global", "v8", "--quiet"}), 64, "k_eq_v");
    expect_error(with({"off", "--kv-exact", "0,0"}), 64, "packs nothing");
  }
}

TEST_F(KvCli, SessionsGoOnWhereTheyStopped) {
  const std::string file = folder_->file("talk.session");
  const auto run = [](std::vector<std::string> more) {
    more.insert(more.begin(), {"run", model_, "--raw", "--greedy", "--json"});
    return lapidary_command(more);
  };
  const auto tokens = [](const Outcome& o) {
    EXPECT_EQ(o.status, 0) << o.err;
    return nlohmann::json::parse(o.out)["tokens"].get<std::vector<int32_t>>();
  };
  const std::vector<int32_t> whole =
      tokens(run({"-p", "Debian is", "--max-tokens", "100", "--kv", "k4v4", "--kv-exact", "0,0"}));
  std::vector<int32_t> parts = tokens(run({"-p", "Debian is", "--max-tokens", "90", "--kv", "k4v4",
                                           "--kv-exact", "0,0", "--save-session", file}));
  // Without --kv the session brings its own. An empty prompt adds nothing to what was chosen.
  TemporaryFolder empty;
  std::ofstream(empty.file("nothing.txt"));
  const std::vector<int32_t> rest =
      tokens(run({"-f", empty.file("nothing.txt"), "--max-tokens", "10", "--load-session", file}));
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, whole);

  expect_error(run({"-p", "x", "--load-session", file, "--kv", "k8v8"}), 64, "KV cache");
  expect_error(run({"-p", "x", "--load-session", file, "--context", "50"}), 64, "larger");
  expect_error(lapidary_command({"run", model_, "-p", "x", "--load-session", file}), 64, "--raw");
  expect_error(run({"-p", "x", "--load-session", model_}), 65, "no session");
  expect_error(run({"-p", "x", "--load-session", "/nowhere/s"}), 66, "/nowhere/s");
}

TEST_F(KvCli, QuantizeChoosesACacheAndTheFileRemembers) {
  TemporaryFolder folder;
  std::ifstream own(data_path("own.txt"));
  std::string text(5000, ' ');
  own.read(text.data(), 5000);
  std::ofstream(folder.file("text.txt")) << text;
  const std::string output = folder.file("q.lap");
  const auto choose = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"quantize", model_, "-o", output, "--weights", "w8", "--kv", "auto",
                               "--kv-text", folder.file("text.txt"), "--json", "--quiet"});
    return lapidary_command(more);
  };
  const Outcome o = choose({"--kv-budget", "150"});
  ASSERT_EQ(o.status, 0) << o.err;
  const auto kv = nlohmann::json::parse(o.out)["kv"];
  EXPECT_LE(kv["bytes_per_token"], 150);
  EXPECT_EQ(kv["trials"].size(), 5u);  // one layer owns a growing cache
  EXPECT_GT(kv["kld"], 0);
  for (const auto& trial : kv["trials"]) EXPECT_GT(trial["kld"], 0) << trial;
  const Outcome plan = lapidary_command({"inspect", output, "--context", "8192", "--json"});
  ASSERT_EQ(plan.status, 0) << plan.err;
  EXPECT_EQ(nlohmann::json::parse(plan.out)["bytes_per_token"], kv["bytes_per_token"]);
  EXPECT_EQ(lapidary_command({"inspect", output, "--verify", "--summary", "--quiet"}).status, 0);
  expect_error(choose({"--kv-budget", "10"}), 64, "bytes per token");
  expect_error(lapidary_command({"quantize", model_, "--dry-run", "--kv", "k4v4"}), 64, "auto");
}

TEST_F(KvCli, RunsAndMeasuresWithPackedCaches) {
  const std::vector<std::string> run{"run",   model_,         "--raw", "--greedy", "-p",
                                     "Hello", "--max-tokens", "80",    "--json",   "--kv"};
  for (const char* kv : {"k8v8", "k4v4", "k3v3"}) {
    std::vector<std::string> arguments = run;
    arguments.insert(arguments.end(), {kv, "--kv-exact", "0,0"});
    const Outcome o = lapidary_command(arguments);
    ASSERT_EQ(o.status, 0) << o.err;
    EXPECT_EQ(nlohmann::json::parse(o.out)["tokens"].size(), 80u);
  }
  const Outcome o = lapidary_command({"verify", model_, model_, "--kv-candidate", "k4v4",
                                      "--kv-exact", "0,0", "--text", data_path("own.txt"),
                                      "--limit-tokens", "2000", "--json", "--quiet"});
  ASSERT_EQ(o.status, 0) << o.err;
  const auto text = nlohmann::json::parse(o.out)["text"];
  EXPECT_GT(text["kld_mean"], 0);
  EXPECT_LT(text["kld_mean"], 0.0175);
}

}  // namespace
}  // namespace lapidary
