// The binary as a user meets it: exit statuses, one line per error, one JSON object per --json, and
// no output left behind by failures, full disks or Ctrl-C.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/test_data.h"
#include "tests/tools/command_runner.h"
#include "tests/tools/converted_model.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

class Cli : public ConvertedModel {};

TEST_F(Cli, HelpOfEveryCommandHasExamples) {
  for (const char* name : {"convert", "quantize", "merge", "run", "eval", "verify", "inspect",
                           "tokenize", "bench", "export", "serve"}) {
    const Outcome o = lapidary_command({name, "--help"});
    EXPECT_EQ(o.status, 0);
    EXPECT_NE(o.out.find("Examples:"), std::string::npos) << name;
  }
}

TEST_F(Cli, WrongUsageIs64) {
  EXPECT_EQ(lapidary_command({}).status, 64);
  EXPECT_EQ(lapidary_command({"conjure"}).status, 64);
  EXPECT_EQ(lapidary_command({"convert"}).status, 64);
  EXPECT_EQ(lapidary_command({"eval", model_}).status, 64);
  expect_error(lapidary_command({"run", model_, "-p", "x", "--kv", "k9v9"}), 64, "k9v9");
  expect_error(lapidary_command({"quantize", model_, "-o", "x.lap", "--weights", "w7"}), 64, "w7");
  expect_error(lapidary_command({"run", model_, "-p", "x", "--temperature", "-1"}), 64,
               "temperature");
}

TEST_F(Cli, AnswersFollowASchema) {
  const std::vector<std::string> ask{"run",      model_,  "-p", "What is 29 + 631?",
                                     "--greedy", "--json"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), ask.begin(), ask.end());
    return lapidary_command(more);
  };
  const Outcome o =
      with({"--json-schema",
            R"({"type":"object","properties":{"sum":{"type":"integer"}},"required":["sum"]})"});
  ASSERT_EQ(o.status, 0) << o.err;
  const auto reply = nlohmann::json::parse(o.out);
  const auto answer = nlohmann::json::parse(reply["text"].get<std::string>());
  EXPECT_TRUE(answer["sum"].is_number_integer());
  EXPECT_EQ(reply["finish_reason"], "stop");
  TemporaryFolder folder;
  std::ofstream(folder.file("s.json")) << R"({"enum": ["yes", "no"]})";
  const Outcome chosen = with({"--json-schema", folder.file("s.json")});
  ASSERT_EQ(chosen.status, 0) << chosen.err;
  const auto word = nlohmann::json::parse(chosen.out)["text"];
  EXPECT_TRUE(word == "\"yes\"" || word == "\"no\"") << word;
  EXPECT_EQ(nlohmann::json::parse(with({"--regex", "a{3}"}).out)["text"], "aaa");
  expect_error(with({"--json-schema", R"({"not":{}})"}), 64, "not is not supported");
  expect_error(with({"--json-schema", "/nowhere/s.json"}), 66, "/nowhere/s.json");
  expect_error(with({"--json-schema", "false"}), 66, "false");
  expect_error(with({"--regex", "(?=a)"}), 64, "look-ahead");
  expect_error(with({"--constrain-after", "x"}), 64, "--constrain-after");
}

// Guesses of both kinds leave the answer as it is; in a chat and offline too.
TEST_F(Cli, GuessingAheadChangesNoAnswer) {
  const std::string assistant = folder_->file("assistant.lap"), w4 = folder_->file("w4.lap");
  ASSERT_EQ(lapidary_command({"convert", data_path("tiny-assistant"), "-o", assistant}).status, 0);
  ASSERT_EQ(lapidary_command({"quantize", assistant, "-o", w4, "--weights", "w4"}).status, 0);
  const auto answer = [&](const std::vector<std::string>& more) {
    std::vector<std::string> ask{
        "run",          model_, "-p",    "Reverse: a b c a b c a b c a b c", "--seed", "3",
        "--max-tokens", "60",   "--json"};
    ask.insert(ask.end(), more.begin(), more.end());
    const Outcome o = lapidary_command(ask);
    EXPECT_EQ(o.status, 0) << o.err;
    return nlohmann::json::parse(o.out);
  };
  const auto plain = answer({});
  EXPECT_FALSE(plain.contains("drafted_tokens"));
  for (const std::vector<std::string>& how : {std::vector<std::string>{"--draft", "6"},
                                              {"--draft-model", assistant},
                                              {"--draft-model", w4, "--draft", "3"}}) {
    const auto ahead = answer(how);
    EXPECT_EQ(ahead["tokens"], plain["tokens"]) << how[1];
    EXPECT_GT(ahead["drafted_tokens"], 0) << how[1];
    EXPECT_LE(ahead["accepted_tokens"], ahead["drafted_tokens"]);
  }
  expect_error(lapidary_command({"run", assistant, "-p", "x"}), 64, "--draft-model");
  expect_error(lapidary_command({"run", model_, "-p", "x", "--draft-model", model_}), 64,
               "not an assistant");
  expect_error(lapidary_command({"run", model_, "-p", "x", "--draft-model", "gone.lap"}), 66,
               "gone.lap");
  expect_error(lapidary_command({"export", assistant, "--to", "hf", "-o", folder_->file("hf")}), 64,
               "an assistant");
  const Outcome inspected = lapidary_command({"inspect", assistant});
  EXPECT_NE(inspected.out.find("an assistant of a model with d_model 192"), std::string::npos);

  std::ofstream(folder_->file("in.jsonl")) << R"({"id": 1, "prompt": "Count: 1 2 3", "seed": 2})";
  std::string said[2];
  for (const bool ahead : {false, true}) {
    const std::string out = folder_->file(ahead ? "ahead.jsonl" : "plain.jsonl");
    std::vector<std::string> batch{"run", model_, "--batch", folder_->file("in.jsonl"),
                                   "-o",  out,    "--quiet"};
    if (ahead) batch.insert(batch.end(), {"--draft-model", w4});
    ASSERT_EQ(lapidary_command(batch).status, 0);
    std::getline(std::ifstream(out), said[ahead]);
  }
  EXPECT_FALSE(said[0].empty());
  EXPECT_EQ(said[1], said[0]);
}

TEST_F(Cli, MissingFilesAre66AndBadFilesAre65) {
  expect_error(lapidary_command({"inspect", "/nowhere/x.lap"}), 66, "/nowhere/x.lap");
  expect_error(lapidary_command({"convert", "/nowhere", "-o", "x.lap"}), 66, "/nowhere");
  TemporaryFolder folder;
  std::ofstream(folder.file("bad.lap")) << "not a model";
  expect_error(lapidary_command({"inspect", folder.file("bad.lap")}), 65, "bad.lap");
}

TEST_F(Cli, JsonIsExactlyOneObject) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"inspect", model_, "--json"},
        {"tokenize", model_, "-p", "Hello", "--bos", "--json"},
        {"run", model_, "--raw", "--greedy", "-p", "Hello", "--max-tokens", "4", "--json"},
        {"quantize", model_, "--dry-run", "--json"}}) {
    const Outcome o = lapidary_command(arguments);
    ASSERT_EQ(o.status, 0) << o.err;
    EXPECT_TRUE(nlohmann::json::parse(o.out).is_object());
  }
}

TEST_F(Cli, RunPutsBosIntoThePromptTokens) {
  const Outcome o = lapidary_command(
      {"run", model_, "--raw", "--greedy", "-p", "Hello", "--max-tokens", "4", "--json"});
  const auto json = nlohmann::json::parse(o.out);
  EXPECT_EQ(json["prompt_tokens"].front(), 2);
  EXPECT_EQ(json["tokens"].size(), 4u);
  EXPECT_EQ(json["finish_reason"], "length");
}

TEST_F(Cli, ChatAnswersEachLineUntilTheInputEnds) {
  RunLimits limits;
  limits.input = "Name the capital city of Norway.\nWhat is the capital of Norway?\n";
  const Outcome o = lapidary_command({"run", model_, "chat", "--greedy"}, limits);
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(o.out.substr(0, 5), "Oslo\n") << o.out;
  EXPECT_EQ(count_lines(o.out), 2u) << o.out;
}

TEST_F(Cli, RecipeFillsOptionsAndTheCommandLineWins) {
  TemporaryFolder folder;
  std::ofstream(folder.file("r.toml")) << "weights = \"w8\"\nkeep = [\"*norm*=bf16\"]\n";
  const std::string recipe = folder.file("r.toml");
  const auto bits = [&](std::vector<std::string> extra) {
    std::vector<std::string> arguments{"quantize", model_,     "--dry-run",
                                       "--json",   "--recipe", recipe};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    const Outcome o = lapidary_command(arguments);
    EXPECT_EQ(o.status, 0) << o.err;
    return nlohmann::json::parse(o.out)["bits_per_weight"].get<double>();
  };
  EXPECT_GT(bits({}), 8.0);
  EXPECT_LT(bits({"--weights", "w4"}), 5.0);
  std::ofstream(folder.file("bad.toml")) << "wheights = \"w8\"\n";
  expect_error(
      lapidary_command({"quantize", model_, "--dry-run", "--recipe", folder.file("bad.toml")}), 64,
      "wheights");
  std::ofstream(folder.file("broken.toml")) << "weights = \n";
  expect_error(
      lapidary_command({"quantize", model_, "--dry-run", "--recipe", folder.file("broken.toml")}),
      65, "broken.toml:1");
}

TEST_F(Cli, ExportsAFolderThatConvertsBackAndKeepsItsInput) {
  TemporaryFolder folder;
  const std::string hf = folder.file("hf"), back = folder.file("back.lap");
  const Outcome o = lapidary_command({"export", model_, "--to", "hf", "-o", hf, "--json"});
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(nlohmann::json::parse(o.out)["shards"], 1);
  EXPECT_EQ(lapidary_command({"convert", hf, "-o", back, "--quiet"}).status, 0);
  expect_error(lapidary_command({"export", model_, "--to", "hf", "-o", hf}), 64, "--overwrite");
  expect_error(lapidary_command({"export", back, "--to", "hf", "-o", folder.path(), "--overwrite"}),
               64, "holds the input");
  EXPECT_TRUE(fs::exists(back));
  expect_error(lapidary_command({"export", model_, "--to", "onnx", "-o", hf}), 64, "onnx");
}

TEST_F(Cli, FullDiskLeavesNothingBehind) {
  TemporaryFolder folder;
  RunLimits limits;
  limits.file_bytes = 1 << 20;
  const Outcome o = lapidary_command(
      {"convert", data_path("nano-e"), "-o", folder.file("m.lap"), "--quiet"}, limits);
  expect_error(o, 74, "m.lap");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST_F(Cli, InterruptLeavesNothingBehind) {
  TemporaryFolder folder;
  RunLimits limits;
  for (const int delay_ms : {5, 20, 60, 150}) {
    limits.interrupt_after_ms = delay_ms;
    const Outcome o = lapidary_command(
        {"quantize", model_, "-o", folder.file("q.lap"), "--weights", "w3", "--quiet"}, limits);
    if (o.status == 0) break;  // finished before the signal came
    // Before the handler is in place the signal itself ends the process.
    EXPECT_TRUE(o.status == 130 || o.status == 1000 + SIGINT) << o.status << " " << o.err;
    EXPECT_TRUE(fs::is_empty(folder.path()));
  }
}

TEST_F(Cli, InspectFindsAChangedTensor) {
  TemporaryFolder folder;
  const std::string copy = folder.file("copy.lap");
  fs::copy_file(model_, copy);
  EXPECT_EQ(lapidary_command({"inspect", copy, "--verify", "--quiet", "--summary"}).status, 0);
  std::fstream file(copy, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-4096, std::ios::end);
  file.put('\x55');
  file.close();
  expect_error(lapidary_command({"inspect", copy, "--verify", "--quiet"}), 65, "model.");
}

}  // namespace
}  // namespace lapidary
