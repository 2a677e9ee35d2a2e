// Packed weights through the engine: padding, rotation, int8 activations, row tables and experts,
// held against the bf16 master. Any mistake in one of them costs nats; the codes cost far less.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

struct Loss {
  std::string checkpoint;
  Code weights;
  ActivationType activations;
  double most_kld;  // nats
};
void PrintTo(const Loss& loss, std::ostream* out) {
  *out << loss.checkpoint << ' ' << code_name(loss.weights);
}

// Mean KLD(base || candidate) over positions.
double mean_kld(std::span<const float> base, std::span<const float> candidate, size_t vocab) {
  const auto log_sum = [](std::span<const float> logits) {
    const double best = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit - best);
    return best + std::log(sum);
  };
  double total = 0;
  for (size_t at = 0; at < base.size(); at += vocab) {
    const auto p = base.subspan(at, vocab), q = candidate.subspan(at, vocab);
    const double p_sum = log_sum(p), q_sum = log_sum(q);
    for (size_t i = 0; i < vocab; ++i)
      total += std::exp(p[i] - p_sum) * ((p[i] - p_sum) - (q[i] - q_sum));
  }
  return total / static_cast<double>(base.size() / vocab);
}

class QuantizedModel : public testing::TestWithParam<Loss> {};

TEST_P(QuantizedModel, StaysNearItsMaster) {
  const Loss& loss = GetParam();
  const std::string folder = checkpoint_folder(loss.checkpoint);
  LAPIDARY_SKIP_WITHOUT(folder);
  const auto fixture = SafetensorsSet::open_file(folder + "/reference/logits.safetensors");
  const std::vector<int32_t> ids =
      ints_of(fixture, loss.checkpoint.starts_with("tiny") ? "ids" : "ids.2");
  EngineOptions options;
  options.n_threads = 2;
  options.max_batch_tokens = options.max_logits = 256;
  options.activations = loss.activations;
  Engine base(converted_model(loss.checkpoint), options);
  Engine candidate(quantized_model(loss.checkpoint, loss.weights), options);
  const double kld =
      mean_kld(logits_of(base, ids, KvCode::kF32), logits_of(candidate, ids, KvCode::kF32),
               static_cast<size_t>(base.model().config().vocab_size));
  std::printf("%-16s %-4s %-6s KLD %.5f\n", loss.checkpoint.c_str(),
              std::string(code_name(loss.weights)).c_str(),
              loss.activations == ActivationType::kInt8 ? "int8" : "16 bit", kld);
  EXPECT_LE(kld, loss.most_kld);
  EXPECT_GT(kld, 0.0);
}

constexpr ActivationType kInt8 = ActivationType::kInt8, k16Bit = ActivationType::k16Bit;
// Three times what was measured with plain rounding.
INSTANTIATE_TEST_SUITE_P(, QuantizedModel,
                         testing::Values(Loss{"nano-e", Code::kW8, kInt8, 0.0025},
                                         Loss{"nano-e", Code::kW8, k16Bit, 0.001},
                                         Loss{"nano-e", Code::kW4, kInt8, 0.2},
                                         Loss{"nano-e", Code::kW4x, kInt8, 0.2},
                                         Loss{"tiny-gemma3", Code::kW8, kInt8, 0.005},
                                         Loss{"tiny-llama3", Code::kW8, kInt8, 0.015},
                                         Loss{"small-moe", Code::kW8, kInt8, 0.005}));

}  // namespace
}  // namespace lapidary
