// Our engine against transformers in float32, over every family.
//
// The project's tolerances: logits 1e-3 at most, log-probabilities 1e-4 on average, text NLL 1e-4
// relative. Both sides sum float32 in orders of their own, so nothing is equal.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "formats/file.h"
#include "runtime/generate.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

constexpr double kLogitTolerance = 1e-3;
constexpr double kLogprobTolerance = 1e-4;
constexpr double kNllTolerance = 1e-4;
constexpr double kClearGap = 1e-3;  // a smaller gap between the two best logits may flip

EngineOptions parity_options() {
  EngineOptions options;
  options.n_threads = 2;
  options.max_batch_tokens = options.max_logits = 256;
  return options;
}

double log_probability(std::span<const float> logits, int32_t id) {
  const double best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - best);
  return logits[static_cast<size_t>(id)] - best - std::log(sum);
}

struct Differences {
  double max_logit = 0, sum_logprob = 0;
  size_t n_logprobs = 0;
  double mean_logprob() const { return sum_logprob / static_cast<double>(n_logprobs); }

  // `logits` of all positions; `want_logits` of the last ones; `want_logprobs` of ids[1..].
  void add(std::span<const int32_t> ids, std::span<const float> logits,
           std::span<const float> want_logits, std::span<const float> want_logprobs) {
    const size_t vocab = logits.size() / ids.size();
    const auto tail = logits.last(want_logits.size());
    for (size_t i = 0; i < tail.size(); ++i)
      max_logit = std::max(max_logit, std::abs(double{tail[i]} - double{want_logits[i]}));
    for (size_t t = 0; t + 1 < ids.size(); ++t)
      sum_logprob += std::abs(log_probability(logits.subspan(t * vocab, vocab), ids[t + 1]) -
                              double{want_logprobs[t]});
    n_logprobs += ids.size() - 1;
  }
  void expect_small(const std::string& name) const {
    std::printf("%-18s logits max %.2e, log-probabilities mean %.2e\n", name.c_str(), max_logit,
                mean_logprob());
    EXPECT_LE(max_logit, kLogitTolerance);
    EXPECT_LE(mean_logprob(), kLogprobTolerance);
  }
};

std::vector<int32_t> greedy(Engine& engine, std::span<const int32_t> prompt, int64_t n_tokens,
                            std::vector<int32_t> stop_ids) {
  const auto sequence =
      engine.new_sequence(static_cast<int64_t>(prompt.size()) + n_tokens, KvCode::kF32);
  GenerateOptions options;
  options.max_tokens = n_tokens;
  options.sampling.greedy = true;
  options.stop_ids = std::move(stop_ids);
  return generate(engine, *sequence, prompt, options).tokens;
}

std::string checkpoint_label(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

class TrainedParity : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, TrainedParity, testing::Values("nano-e", "small-dense", "small-moe"),
                         checkpoint_label);

TEST_P(TrainedParity, PromptsGiveTheLogitsOfTransformers) {
  const std::string folder = checkpoint_folder(GetParam());
  LAPIDARY_SKIP_WITHOUT(folder);
  const auto fixture = SafetensorsSet::open_file(folder + "/reference/logits.safetensors");
  Engine engine(converted_model(GetParam()), parity_options());
  Differences differences;
  for (int i = 0; i < 8; ++i) {
    const std::string n = std::to_string(i);
    const std::vector<int32_t> ids = ints_of(fixture, "ids." + n);
    differences.add(ids, logits_of(engine, ids, KvCode::kF32), floats_of(fixture, "logits." + n),
                    floats_of(fixture, "logprobs." + n));
  }
  differences.expect_small(GetParam());
}

TEST_P(TrainedParity, GreedyContinuationsAreIdentical) {
  const std::string folder = checkpoint_folder(GetParam());
  LAPIDARY_SKIP_WITHOUT(folder);
  const auto fixture = SafetensorsSet::open_file(folder + "/reference/logits.safetensors");
  const auto prompts = nlohmann::json::parse(read_text(folder + "/reference/prompts.json"));
  Engine engine(converted_model(GetParam()), parity_options());
  for (int i = 0; i < 8; ++i) {
    if (prompts["prompts"][i]["smallest_top2_gap"].get<double>() <= kClearGap) continue;
    const std::string n = std::to_string(i);
    EXPECT_EQ(greedy(engine, ints_of(fixture, "ids." + n), 48, {1, 6}),
              ints_of(fixture, "greedy." + n))
        << "prompt " << i;
  }
}

TEST_P(TrainedParity, EveryLayerGivesTheStatesOfTransformers) {
  const std::string folder = checkpoint_folder(GetParam());
  LAPIDARY_SKIP_WITHOUT(folder);
  const auto fixture = SafetensorsSet::open_file(folder + "/reference/logits.safetensors");
  const std::vector<int32_t> ids = ints_of(fixture, "ids.2");
  const std::vector<float> want = floats_of(fixture, "hidden.2");
  const auto model = converted_model(GetParam());
  const int n_layers = model->config().n_layers();
  const size_t size = ids.size() * static_cast<size_t>(model->config().d_model);
  ASSERT_EQ(want.size(), size * static_cast<size_t>(n_layers + 1));

  Engine engine(model, parity_options());
  engine.set_tap([&](int layer, const float* hidden, int64_t n_tokens) {
    if (layer == n_layers) return;  // the fixture's last entry is after the final norm
    ASSERT_EQ(static_cast<size_t>(n_tokens), ids.size());
    const auto expected =
        std::span(want).subspan(static_cast<size_t>(std::min(layer, n_layers)) * size, size);
    double largest = 0, off = 0;
    for (size_t i = 0; i < size; ++i) {
      largest = std::max(largest, std::abs(double{expected[i]}));
      off = std::max(off, std::abs(double{hidden[i]} - double{expected[i]}));
    }
    // Rounding of float32 sums grows by layer; a wrong formula is off by percents.
    EXPECT_LE(off, 1e-4 * largest) << "layer " << layer;
  });
  logits_of(engine, ids, KvCode::kF32);
}

TEST_P(TrainedParity, TextLossIsThatOfTransformers) {
  const std::string folder = checkpoint_folder(GetParam());
  LAPIDARY_SKIP_WITHOUT(folder);
  const auto fixture = SafetensorsSet::open_file(folder + "/reference/logits.safetensors");
  const std::vector<int32_t> text = ints_of(fixture, "text.ids");
  const std::vector<float> want = floats_of(fixture, "text.nll");
  const auto model = converted_model(GetParam());
  const size_t vocab = static_cast<size_t>(model->config().vocab_size);
  Engine engine(model, parity_options());
  // The first 2 of 25 windows; `eval` measures all.
  constexpr size_t kWindow = 1023;
  double sum = 0, want_sum = 0;
  for (size_t begin = 0; begin < 2 * kWindow; begin += kWindow) {
    std::vector<int32_t> ids = {model->config().bos_id};
    ids.insert(ids.end(), text.begin() + begin, text.begin() + begin + kWindow);
    const std::vector<float> logits = logits_of(engine, ids, KvCode::kF32);
    for (size_t t = 0; t < kWindow; ++t) {
      sum -= log_probability(std::span(logits).subspan(t * vocab, vocab), ids[t + 1]);
      want_sum += want[begin + t];
    }
  }
  std::printf("%-18s text NLL relative %.2e\n", GetParam().c_str(), sum / want_sum - 1);
  EXPECT_NEAR(sum / want_sum, 1.0, kNllTolerance);
}

class TinyParity : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, TinyParity,
                         testing::Values("tiny-gemma3", "tiny-llama3", "tiny-qwen3",
                                         "tiny-gemma4-omni"),
                         checkpoint_label);

TEST_P(TinyParity, LogitsAndGreedyTokensAreThoseOfTransformers) {
  const auto fixture =
      SafetensorsSet::open_file(checkpoint_folder(GetParam()) + "/reference/logits.safetensors");
  const std::vector<int32_t> ids = ints_of(fixture, "ids");
  Engine engine(converted_model(GetParam()), parity_options());
  Differences differences;
  differences.add(ids, logits_of(engine, ids, KvCode::kF32), floats_of(fixture, "logits"),
                  floats_of(fixture, "logprobs"));
  differences.expect_small(GetParam());
  EXPECT_EQ(greedy(engine, std::span(ids).first(24), 16, {}), ints_of(fixture, "greedy"));
}

}  // namespace
}  // namespace lapidary
