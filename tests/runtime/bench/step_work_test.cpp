// The counted work, against sums made another way: over the tensors of the file.
#include "runtime/bench/step_work.h"

#include <gtest/gtest.h>

#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

// Every matrix of the file except the row table; the embedding stands for the head.
StepWork all_matrices(const Model& model) {
  StepWork work;
  for (const LapTensor& t : model.file().index()) {
    if (t.shape.size() != 2 || t.layout == Layout::kRowTable) continue;
    work += {static_cast<double>(t.bytes), static_cast<double>(t.elements())};
  }
  return work;
}

double row_bytes(const Model& model) {
  const LapTensor* t = model.file().find("model.embed_tokens.weight");
  return static_cast<double>(t->bytes) / static_cast<double>(t->shape[0]) +
         static_cast<double>(model.ple_geometry.row_bytes);
}

double kv_bytes_per_key(const ModelConfig& config) {  // bf16, of all layers
  double bytes = 0;
  for (const LayerConfig& l : config.layers) bytes += 4.0 * l.n_kv_heads * l.head_dim;
  return bytes;
}

TEST(StepWork, OneTokenReadsEveryWeightAndItsVisibleKeys) {
  for (const Code code : {Code::kBF16, Code::kW4, Code::kW3}) {
    const auto model = quantized_model("nano-e", code);
    const StepWork all = all_matrices(*model);
    const StepWork work = step_work(*model, KvCode::kBF16, /*first_position=*/9, 1, 1);
    EXPECT_DOUBLE_EQ(work.multiply_adds, all.multiply_adds);
    EXPECT_DOUBLE_EQ(work.bytes,
                     all.bytes + row_bytes(*model) + 10 * kv_bytes_per_key(model->config()));
  }
}

TEST(StepWork, SlidingLayersStopAtTheirWindow) {
  const auto model = converted_model("nano-e");
  double global = 0;
  for (const LayerConfig& l : model->config().layers)
    if (l.attention == AttentionKind::kGlobal) global += 4.0 * l.n_kv_heads * l.head_dim;
  const auto bytes = [&](int64_t position) {
    return step_work(*model, KvCode::kBF16, position, 1, 1).bytes;
  };
  const int window = model->config().layers[0].window;
  EXPECT_DOUBLE_EQ(bytes(window + 100) - bytes(window + 99), global);
  EXPECT_GT(bytes(5) - bytes(4), global);
  EXPECT_DOUBLE_EQ(step_work(*model, KvCode::kF32, 5, 1, 1).bytes - bytes(5),
                   6 * kv_bytes_per_key(model->config()));
}

// nano-e: layers 5 to 9 share the K and V of layers 3 and 4.
TEST(StepWork, LayersThatShareKvCostNothingForTokensWithoutLogits) {
  const auto model = converted_model("nano-e");
  const StepWork with = step_work(*model, KvCode::kBF16, 0, 8, 8);
  const StepWork without = step_work(*model, KvCode::kBF16, 0, 8, 0);
  EXPECT_DOUBLE_EQ(with.multiply_adds, 8 * all_matrices(*model).multiply_adds);
  EXPECT_LT(without.multiply_adds, with.multiply_adds / 2);
  const StepWork last = step_work(*model, KvCode::kBF16, 0, 8, 1);
  EXPECT_GT(last.multiply_adds, without.multiply_adds);
  EXPECT_LT(last.multiply_adds, without.multiply_adds + all_matrices(*model).multiply_adds);
}

TEST(StepWork, OneTokenMeetsExactlyItsExperts) {
  const std::string folder = shared_path("checkpoints/small-moe");
  LAPIDARY_SKIP_WITHOUT(folder);
  const auto model = converted_model("small-moe");
  const LayerConfig& shape = model->config().layers[0];
  double expected = all_matrices(*model).multiply_adds;
  for (const LayerConfig& l : model->config().layers)
    expected += 3.0 * l.n_experts_used * l.d_expert * model->config().d_model;
  EXPECT_NEAR(step_work(*model, KvCode::kBF16, 0, 1, 1).multiply_adds, expected, 1e-6 * expected);
  // Many tokens meet nearly all experts, never more.
  const auto expert_bytes = [&](int64_t n) {
    return step_work(*model, KvCode::kBF16, 0, n, n).bytes;
  };
  EXPECT_GT(expert_bytes(64), expert_bytes(1));
  EXPECT_LE(shape.n_experts_used, shape.n_experts);
}

}  // namespace
}  // namespace lapidary
