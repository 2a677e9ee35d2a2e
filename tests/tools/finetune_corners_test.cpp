// Fine-tuning through the binary, at its edges: previews and pages, the gate on tasks, data with
// nothing to learn, losses that are no numbers, adapters for other models.
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/tools/finetune_fixture.h"

namespace lapidary {
namespace {

class FinetuneCorners : public FinetuneCli {
 protected:
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.file(name), std::ios::binary) << text;
    return folder_.file(name);
  }
  std::string data() const { return folder_.file("data.jsonl"); }
};

TEST_F(FinetuneCorners, PreviewMarksWhatIsLearned) {
  const Outcome outcome = lapidary_command({"finetune", model_, "--data", data(), "--general",
                                            folder_.file("general.jsonl"), "--preview", "2"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const std::string first = data() +
                            " line 1 (prompt/completion): 19 tokens, 3 learned\n<bos><|turn>user\n"
                            "How many letters has x?<turn|>\n<|turn>model\n[[1<turn|>\n]]\n\n";
  EXPECT_EQ(outcome.out.substr(0, first.size()), first);
  EXPECT_NE(outcome.out.find("data.jsonl line 2 ("), std::string::npos);
  EXPECT_EQ(outcome.out.find("data.jsonl line 3 ("), std::string::npos);
  EXPECT_NE(outcome.out.find("general.jsonl line 2 (task items)"), std::string::npos);
  EXPECT_EQ(outcome.out.find("general.jsonl line 3 ("), std::string::npos);
}

// Text from strangers neither moves the cursor nor runs in the page.
TEST_F(FinetuneCorners, PreviewIsHarmless) {
  const std::string hostile = write(
      "hostile.jsonl",
      R"({"prompt": "<script>alert(1)</script> \u001b[2J", "completion": "a <b> & \u0007c"})");
  const std::vector<std::string> preview{"finetune", model_, "--data", hostile, "--preview", "1"};
  const Outcome text = lapidary_command(preview);
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_EQ(text.out.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.out.find('\x07'), std::string::npos);
  auto page = preview;
  page.insert(page.end(), {"--html", folder_.file("preview.html")});
  const Outcome html = lapidary_command(page);
  EXPECT_EQ(html.status, 0) << html.err;
  EXPECT_EQ(html.out, "");
  const std::string written = read_text(folder_.file("preview.html"));
  EXPECT_EQ(written.find("<script>alert"), std::string::npos);
  EXPECT_NE(written.find("&lt;script&gt;alert(1)"), std::string::npos);
  EXPECT_NE(written.find("<mark>a &lt;b&gt; &amp; "), std::string::npos);
}

TEST_F(FinetuneCorners, SeedsOutsideReasonAreWrongUsage) {
  for (const char* seed : {"-1", "18446744073709551616"})
    expect_error(lapidary_command({"finetune", model_, "--seed", seed}), 64, "--seed");
}

TEST_F(FinetuneCorners, APageReplacesNoInputAndHasAFolder) {
  const std::string before = read_text(data());
  for (const std::string& page : {data(), model_, folder_.file("general.jsonl")}) {
    expect_error(
        lapidary_command({"finetune", model_, "--data", data(), "--general",
                          folder_.file("general.jsonl"), "--preview", "1", "--html", page}),
        64, page);
    expect_error(lapidary_command(command("page", {"--quiet", "--html", page})), 64, page);
  }
  EXPECT_EQ(read_text(data()), before);
  expect_error(lapidary_command(command("page", {"--html", folder_.file("none/page.html")})), 66,
               "there is no folder");
  EXPECT_FALSE(fs::exists(folder_.file("page")));
}

TEST_F(FinetuneCorners, TheReportShowsTheRunAndNeedsNothingElse) {
  const std::string page = folder_.file("page.html");
  ASSERT_EQ(lapidary_command(command("run", {"--quiet", "--html", page})).status, 0);
  const std::string written = read_text(page);
  EXPECT_EQ(written.find("<!DOCTYPE html>"), 0u);
  EXPECT_NE(written.find("</html>"), std::string::npos);
  EXPECT_NE(written.find("<svg"), std::string::npos);
  EXPECT_NE(written.find("<polyline"), std::string::npos);  // a curve
  for (const char* fact : {"tokens per second", "peak memory", "trained parameters"})
    EXPECT_NE(written.find(fact), std::string::npos) << fact;
  for (const char* outside : {"<link", "<script src", "@import", "<img"})
    EXPECT_EQ(written.find(outside), std::string::npos) << outside;
}

// A rate that wrecks the model: what it answered before is gone, and the run stops by itself.
TEST_F(FinetuneCorners, TheGateOnTasksStopsARunThatForgets) {
  std::ifstream skills(data_path("skills.jsonl"));
  std::string line, tasks;
  for (int n = 0; n < 20 && std::getline(skills, line);)
    if (line.find("\"task\": \"biggest\"") != std::string::npos) tasks += line + "\n", ++n;
  ASSERT_NE(tasks, "");
  const std::vector<std::string> run{"finetune",
                                     model_,
                                     "--data",
                                     data(),
                                     "--gate-tasks",
                                     write("tasks.jsonl", tasks),
                                     "--steps",
                                     "40",
                                     "--eval-steps",
                                     "2",
                                     "--lr",
                                     "0.05",
                                     "--context",
                                     "128",
                                     "--quiet",
                                     "-o",
                                     folder_.file("wrecked"),
                                     "--json"};
  const Outcome outcome = lapidary_command(run);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto report = nlohmann::json::parse(outcome.out);
  EXPECT_TRUE(report["stopped_early"].get<bool>());
  EXPECT_EQ(report["steps"], 4);  // two evaluations in a row
  std::istringstream log(read_text(folder_.file("wrecked") + "/log.jsonl"));
  std::vector<nlohmann::json> evaluations;
  while (std::getline(log, line)) {
    auto json = nlohmann::json::parse(line);
    if (json.contains("gate")) evaluations.push_back(std::move(json));
  }
  ASSERT_EQ(evaluations.size(), 3u);
  EXPECT_GT(evaluations[0]["task_share"], 0.5);
  EXPECT_EQ(evaluations[0]["gate"], "PASS");
  for (size_t i : {1u, 2u}) {
    EXPECT_EQ(evaluations[i]["gate"], "FAIL");
    EXPECT_LT(evaluations[i]["task_interval"][1], -0.02);  // beyond --gate-points as a whole
  }
  expect_error(lapidary_command({"finetune", model_, "--data", data(), "--gate-tasks",
                                 write("bad.jsonl", "{\"task\": 3}\n"), "--quiet", "-o",
                                 folder_.file("bad")}),
               65, "bad.jsonl");
}

// Conversations of which nothing is left to learn are counted and left out; when that is all there
// is, one line says so.
TEST_F(FinetuneCorners, WhatHasNothingToLearnIsLeftOutAndNeverMakesAStep) {
  const std::string asks =
      R"({"prompt": "one two three four five six seven eight nine ten", "completion": "x"})"
      "\n";
  const std::string fine = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
  const std::string mixed = write("mixed.jsonl", asks + fine + asks + asks);
  const Outcome outcome =
      lapidary_command({"finetune", model_, "--data", mixed, "--context", "14", "--batch-tokens",
                        "14", "--steps", "3", "--rank", "2", "-o", folder_.file("mixed")});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("3 left out"), std::string::npos) << outcome.err;
  for (const double loss : losses("mixed")) EXPECT_TRUE(std::isfinite(loss) && loss > 0);
  EXPECT_EQ(losses("mixed").size(), 3u);
  const std::string none = write("none.jsonl", asks + asks);
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--preview", "2"}, {"--quiet", "-o", folder_.file("none")}}) {
    std::vector<std::string> run{"finetune", model_, "--data", none, "--context", "14"};
    run.insert(run.end(), more.begin(), more.end());
    expect_error(lapidary_command(run), 65, "to learn within the context");
  }
  EXPECT_FALSE(fs::exists(folder_.file("none")));
}

TEST_F(FinetuneCorners, ALossThatIsNoNumberStopsTheRunAndKeepsTheLastGoodStep) {
  const Outcome outcome =
      lapidary_command({"finetune", model_, "--data", data(), "--steps", "8", "--context", "64",
                        "--batch-tokens", "64", "--lr", "1e30", "--clip", "0", "--warmup", "0",
                        "--quiet", "-o", folder_.file("diverged")});
  expect_error(outcome, 65, "not finite at step 2");
  EXPECT_NE(outcome.err.find("use a lower --lr"), std::string::npos) << outcome.err;
  EXPECT_TRUE(fs::exists(folder_.file("diverged") + "/checkpoint/step-00000001/state.json"));
  EXPECT_FALSE(fs::exists(folder_.file("diverged") + "/adapter_config.json"));
  // The same folder starts anew when told to.
  EXPECT_EQ(lapidary_command({"finetune", model_, "--data", data(), "--steps", "2", "--context",
                              "64", "--batch-tokens", "64", "--overwrite", "--quiet", "-o",
                              folder_.file("diverged")})
                .status,
            0);
  EXPECT_FALSE(fs::exists(folder_.file("diverged") + "/checkpoint"));
}

TEST_F(FinetuneCorners, AnAdapterServesItsOwnBaseAlone) {
  const std::string other = folder_.file("other.lap");
  convert(*HfSource::open(data_path("tiny-llama3")), other, {});
  ASSERT_EQ(lapidary_command(command("tuned", {"--quiet"})).status, 0);
  const std::string tuned = folder_.file("tuned");
  const std::vector<std::string> uses[] = {
      {"run", other, "--adapter", tuned, "-p", "x", "--raw", "--max-tokens", "2"},
      {"merge", other, tuned, "-o", folder_.file("merged.lap")},
      {"export", tuned, "--to", "gguf", "--base", other, "-o", folder_.file("a.gguf")},
      {"export", tuned, "--to", "mlx", "--base", other, "-o", folder_.file("a-mlx")}};
  for (const auto& arguments : uses) {
    const Outcome outcome = lapidary_command(arguments);
    EXPECT_EQ(outcome.status, 65) << arguments[0] << ": " << outcome.err;
    EXPECT_EQ(count_lines(outcome.err), 1u) << outcome.err;
    EXPECT_FALSE(fs::exists(arguments.back())) << arguments.back();
  }
  // A checkpoint knows its model as well.
  auto arguments = command("run", {"--quiet", "--checkpoint-steps", "2"});
  RunLimits limits;
  limits.file_bytes = 60000;  // stops it half way
  ASSERT_NE(lapidary_command(arguments, limits).status, 0);
  arguments[1] = other;
  arguments.push_back("--resume");
  EXPECT_EQ(lapidary_command(arguments).status, 65);
}

// The folder that a full disk could not take appears not at all; what stood there stands.
TEST_F(FinetuneCorners, AFullDiskAtTheEndSparesTheOlderAdapter) {
  ASSERT_EQ(lapidary_command(command("tuned", {"--quiet"})).status, 0);
  const std::string before = result("tuned");
  RunLimits full;
  full.file_bytes = 100000;  // less than the adapter
  ASSERT_GT(fs::file_size(folder_.file("tuned") + "/adapter_model.safetensors"), 100000u);
  const Outcome outcome =
      lapidary_command(command("again", {"--quiet", "--checkpoint-steps", "0"}), full);
  expect_error(outcome, 74, "cannot write");
  EXPECT_FALSE(fs::exists(folder_.file("again") + "/adapter_config.json"));
  expect_error(lapidary_command({"export", folder_.file("tuned"), "--to", "mlx", "--base", model_,
                                 "-o", folder_.file("mlx")},
                                full),
               74, "cannot write");
  EXPECT_FALSE(fs::exists(folder_.file("mlx")));
  EXPECT_EQ(result("tuned"), before);
}

}  // namespace
}  // namespace lapidary
