// lapidary run --batch as a user meets it: every line answered once, whatever stops it in between.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/file.h"
#include "tests/test_data.h"
#include "tests/tools/command_runner.h"

namespace lapidary {
namespace {

using nlohmann::json;

class Batch : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    convert(*HfSource::open(data_path("nano-e")), folder_->file("m.lap"), {});
  }
  static void TearDownTestSuite() { delete folder_; }
  void SetUp() override { std::filesystem::remove(out()); }

  static std::string model() { return folder_->file("m.lap"); }
  static std::string in() { return folder_->file("in.jsonl"); }
  static std::string out() { return folder_->file("out.jsonl"); }
  static void write(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  static Outcome batch(std::vector<std::string> more = {}, const RunLimits& limits = {}) {
    std::vector<std::string> all{"run",     model(),  "--batch",      in(), "-o",      out(),
                                 "--quiet", "--json", "--max-tokens", "12", "--greedy"};
    all.insert(all.end(), more.begin(), more.end());
    return lapidary_command(all, limits);
  }
  static std::map<std::string, json> answers() {
    std::map<std::string, json> all;
    std::istringstream lines(read_text(out()));
    for (std::string line; std::getline(lines, line);) {
      const json answer = json::parse(line);
      EXPECT_TRUE(all.emplace(answer["id"], answer).second) << "answered twice: " << line;
    }
    return all;
  }

  static TemporaryFolder* folder_;
};
TemporaryFolder* Batch::folder_ = nullptr;

std::string many(int n) {
  std::string text;
  for (int i = 0; i < n; ++i)
    text += json{{"prompt", "What is " + std::to_string(i) + " + 7?"}}.dump() + "\n";
  return text;
}

TEST_F(Batch, AnswersEachLineAsRunDoes) {
  write(in(), R"({"prompt": "What is 29 + 631?"}

{"id": "named", "messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 1}
{"id": 17, "prompt": "What is 29 + 631?", "temperature": 2, "seed": 5}
{"id": "long", "prompt": ")" +
                  std::string(9000, 'x') + "\"}\n");
  const Outcome o = batch();
  EXPECT_EQ(o.status, 1) << o.err;  // one has failed
  const auto got = answers();
  ASSERT_EQ(got.size(), 4u);
  const auto alone = [&](std::vector<std::string> more) {
    std::vector<std::string> all{"run", model(), "--json", "--quiet"};
    all.insert(all.end(), more.begin(), more.end());
    return json::parse(lapidary_command(all).out);
  };
  const json first = alone({"-p", "What is 29 + 631?", "--greedy", "--max-tokens", "12"});
  EXPECT_EQ(got.at("1")["text"], first["text"]);
  EXPECT_EQ(got.at("1")["finish_reason"], first["finish_reason"]);
  EXPECT_EQ(got.at("1")["prompt_tokens"], first["prompt_tokens"].size());
  EXPECT_EQ(got.at("1")["new_tokens"], first["tokens"].size());
  EXPECT_EQ(got.at("named")["new_tokens"], 1);
  EXPECT_EQ(got.at("named")["finish_reason"], "length");
  EXPECT_EQ(got.at("17")["text"], alone({"-p", "What is 29 + 631?", "--temperature", "2", "--seed",
                                         "5", "--max-tokens", "12"})["text"]);
  EXPECT_NE(got.at("long")["error"].get<std::string>().find("context"), std::string::npos);
  const json summary = json::parse(o.out);
  EXPECT_EQ(summary["requests"], 4);
  EXPECT_EQ(summary["answered"], 3);
  EXPECT_EQ(summary["failed"], 1);
}

TEST_F(Batch, GoesOnWhereItStopped) {
  write(in(), many(20));
  ASSERT_EQ(batch({"--draft", "8"}).status, 0);
  const auto want = answers();
  ASSERT_EQ(want.size(), 20u);
  const std::string whole = read_text(out());
  // Torn anywhere: the whole lines count, the rest is answered again, nothing twice.
  for (const size_t kept : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1}) {
    write(out(), whole.substr(0, kept));
    const Outcome o = batch();
    ASSERT_EQ(o.status, 0) << o.err;
    const auto got = answers();
    ASSERT_EQ(got.size(), 20u);
    for (const auto& [id, answer] : want) EXPECT_EQ(got.at(id)["text"], answer["text"]) << id;
    const json summary = json::parse(o.out);
    EXPECT_EQ(summary["answered"].get<int>() + summary["finished_before"].get<int>(), 20);
  }
  const std::string before = read_text(out());
  EXPECT_EQ(json::parse(batch().out)["answered"], 0);
  EXPECT_EQ(read_text(out()), before);
}

TEST_F(Batch, CtrlCKeepsWholeLinesAndGoesOn) {
  std::string hot;
  for (int i = 0; i < 400; ++i)
    hot += json{{"prompt", "What is it?"}, {"max_tokens", 200}, {"temperature", 3}, {"seed", i}}
               .dump() +
           "\n";
  write(in(), hot);
  RunLimits limits;
  limits.interrupt_after_ms = 2000;
  const Outcome o = batch({}, limits);
  EXPECT_EQ(o.status, 130) << o.err;
  // A machine busy with other things may still be reading the input then.
  EXPECT_TRUE(o.err.find("goes on") != std::string::npos ||
              o.err.find("nothing was written") != std::string::npos)
      << o.err;
  const size_t n_before = answers().size();
  EXPECT_LT(n_before, 400u);
  write(in(), many(int(n_before) + 3));
  EXPECT_EQ(batch().status, 0);
  EXPECT_GE(answers().size(), n_before);
}

TEST_F(Batch, RefusesBadLinesBeforeItBegins) {
  const std::pair<const char*, const char*> cases[] = {
      {"{\"prompt\": \"a\"}\nnonsense\n", "line 2"},
      {"[1]", "line 1"},
      {"{}", "messages"},
      {"{\"prompt\": \"a\", \"messages\": [1]}", "messages"},
      {"{\"prompt\": 5}", "expected text"},
      {"{\"messages\": []}", "expected a list"},
      {"{\"prompt\": \"a\", \"id\": 1.5}", "id is 1.5"},
      {"{\"prompt\": \"a\", \"id\": \"2\"}\n{\"prompt\": \"b\"}", "comes twice"},
      {"{\"prompt\": \"a\", \"temprature\": 1}", "temprature"},
      {"{\"prompt\": \"a\", \"top_p\": 7}", "top_p"},
      {"{\"prompt\": \"a\", \"seed\": -1}", "seed"},
      {"{\"prompt\": \"a\", \"max_tokens\": 1e99}", "max_tokens"},
      {"{\"prompt\": \"a\", \"prompt\": \"b\"}", "prompt"},
  };
  for (const auto& [text, mentions] : cases) {
    write(in(), text);
    expect_error(batch(), 65, mentions);
    EXPECT_FALSE(std::filesystem::exists(out())) << text;
  }
  write(in(), many(1));
  write(out(), "{\"text\": \"something else\"}\n");
  expect_error(batch(), 65, "another -o");
  expect_error(lapidary_command({"run", model(), "--batch", in(), "-o", in()}), 64, "one file");
  expect_error(lapidary_command({"run", model(), "--batch", in()}), 64, "belong together");
  expect_error(lapidary_command({"run", model(), "--batch", in(), "-o", out(), "-p", "x"}), 64,
               "drop");
  expect_error(lapidary_command({"run", model(), "--batch", in() + "x", "-o", out()}), 66,
               "in.jsonlx");
}

}  // namespace
}  // namespace lapidary
