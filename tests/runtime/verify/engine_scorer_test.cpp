// A real model through the Scorer: nano-e's text measure against transformers, its answers against
// what it learned, batched against one by one.
#include <gtest/gtest.h>

#include <cstdio>
#include <numeric>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/error.h"
#include "formats/file.h"
#include "formats/safetensors.h"
#include "runtime/verify/builtin_tasks.h"
#include "runtime/verify/verdict.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

// nano-e as .lap, converted once.
const std::string& nano_path() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    const std::string output = folder.file("nano-e.lap");
    convert(*HfSource::open(data_path("nano-e")), output, {});
    return output;
  }();
  return path;
}

std::unique_ptr<Scorer> nano(EngineScorerOptions options = {}) {
  options.engine.n_threads = 2;
  return make_engine_scorer(nano_path(), options);
}

std::vector<TaskItem> skills(const std::string& task, size_t n) {
  std::vector<TaskItem> items;
  for (TaskItem& item : read_tasks(data_path("skills.jsonl"), 0))
    if (item.task == task && items.size() < n) items.push_back(std::move(item));
  return items;
}

TEST(EngineScorer, MeasuresTheFixturesTextAsTransformersDo) {
  // One full window of 1023 and a short one; the whole text is measured by hand (docs/results.md).
  constexpr size_t kTokens = 1300;
  const SafetensorsSet fixture =
      SafetensorsSet::open_file(data_path("nano-e/reference/logits.safetensors"));
  const std::vector<float> expected = fixture.read_floats(*fixture.find("text.nll"));
  const double mean = std::accumulate(expected.begin(), expected.begin() + kTokens, 0.0) / kTokens;
  EngineScorerOptions options;
  options.kv = KvCode::kF32;
  const TextResult result = measure_text(*nano(options), read_text(data_path("own.txt")),
                                         {.context = 1024, .limit_tokens = kTokens}, {});
  EXPECT_EQ(result.tokens, static_cast<int64_t>(kTokens));
  // Float32 sums in another order: 1e-4 relative, as in parity_test.cpp.
  EXPECT_NEAR(result.nll, mean, 1e-4 * mean);
}

TEST(EngineScorer, FindsNoDifferenceBetweenAModelAndItself) {
  const auto base = nano(), candidate = nano();
  VerifyResult result;
  result.identical = base->identity() == candidate->identity();
  EXPECT_TRUE(result.identical);
  result.text =
      compare_text(*base, *candidate, read_text(data_path("own.txt")), {.limit_tokens = 300}, {});
  const auto items = skills("reverse", 10);
  result.tasks =
      compare_tasks(items, score_tasks(*base, items, {}), score_tasks(*candidate, items, {}));
  judge(result);  // throws unless everything is exactly zero
  EXPECT_EQ(result.verdict, Verdict::kPass);
}

TEST(EngineScorer, HasAnIdentityOfWeightsAndOptions) {
  EngineScorerOptions kv, activations, adapter;
  kv.kv = KvCode::kF32;
  activations.engine.activations = ActivationType::k16Bit;
  adapter.adapter_folder = data_path("nano-e/reference/lora_final");
  const std::string plain = nano()->identity();
  for (const EngineScorerOptions& options : {kv, activations, adapter})
    EXPECT_NE(nano(options)->identity(), plain);
}

TEST(EngineScorer, AnswersTheSameInBatchesAsOneByOne) {
  const auto model = nano();
  std::vector<GreedyRequest> requests;
  // Prompts of many lengths, one longer than a batch, and limits that end some answers early.
  for (const TaskItem& item : read_tasks(data_path("skills.jsonl"), 4))
    requests.push_back(
        {model->tokenizer().encode("<bos><|turn>user\n" + item.user + "<turn|>\n<|turn>model\n"),
         static_cast<int64_t>(3 + requests.size() % 20)});
  requests.push_back({requests[0].prompt, 0});
  const auto& stops = model->metadata().config.eos_ids;
  size_t calls = 0;
  const auto batched =
      model->answer_all(requests, stops, [&](size_t done) { EXPECT_EQ(done, ++calls); });
  EXPECT_EQ(calls, requests.size());
  EXPECT_EQ(batched, model->Scorer::answer_all(requests, stops, {}));
  EXPECT_TRUE(batched.back().empty());
}

TEST(EngineScorer, SeesTheSkillsThatNanoLearned) {
  const auto model = nano();
  // training.json: 100 % on these two; one slip in 20 would be unlucky.
  for (const char* task : {"reverse", "tool"}) {
    const auto items = skills(task, 20);
    EXPECT_GE(summarize(items, score_tasks(*model, items, {})).at(task).accuracy, 0.9) << task;
  }
}

TEST(EngineScorer, AnswersTheBuiltInTasks) {
  const auto model = nano();
  ASSERT_EQ(tool_grammar_of(model->tokenizer()), ToolGrammar::kGemma);
  const auto items = builtin_tasks({.per_task = 20});
  const auto results = summarize(items, score_tasks(*model, items, {}));
  for (const auto& [name, result] : results)
    std::printf("%-12s %.2f\n", name.c_str(), result.accuracy);
  // The same skills in the same words as in training: well above what luck would give.
  for (const char* task : {"sort", "largest", "extract", "needle", "tool"})
    EXPECT_GE(results.at(task).accuracy, 0.5) << task;
}

}  // namespace
}  // namespace lapidary
