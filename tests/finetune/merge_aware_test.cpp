// Training that looks ahead to the merge: what it trained against is, bit for bit, what merge()
// stores; and the gradient of the adapter is that of the update it rounds.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <fstream>

#include "finetune/finetune.h"
#include "finetune/frozen_weights.h"
#include "finetune/lora.h"
#include "finetune/trainer.h"
#include "quantize/merge.h"
#include "tests/finetune/fixtures.h"
#include "tests/finetune_data.h"

namespace lapidary {
namespace {

class MergeAwareBase : public testing::Test {
 protected:
  MergeAwareBase() {
    write_letter_counts(folder_.file("data.jsonl"), 40);
    options_.model = converted(data_path("nano-e"));
    options_.data = folder_.file("data.jsonl");
    options_.output = folder_.file("tuned");
    options_.steps = 4;
    options_.context = 128;
    options_.batch_tokens = 200;
    options_.rank = 4;
    options_.learning_rate = 5e-3;
    options_.n_threads = 2;
    options_.precision = "f32";
  }
  TemporaryFolder folder_;
  FinetuneOptions options_;
};

class MergeAwareRun : public MergeAwareBase, public testing::WithParamInterface<const char*> {};

TEST_P(MergeAwareRun, EndsAsTheVeryModelThatMergeWrites) {
  options_.merge_aware = merge_aware(options_.model, GetParam(), 2);
  finetune(options_, {});
  MergeOptions merge_options;
  merge_options.weights = *parse_code(GetParam());
  const std::string merged = folder_.file("merged.lap");
  merge(options_.model, options_.output, merged, merge_options, {});

  // No adapter on the merged model: all that is left are its own weights.
  const auto model = Model::load(merged);
  PeftConfig config;
  config.rank = 1;
  config.target_modules = {"q_proj"};
  Trainer trainer(model, Trainer::initial_adapter(*model, config, 0), {});
  const auto probe = SafetensorsSet::open_file(options_.output + "/probe.safetensors");
  const FloatTensor expected = read_tensor(probe, "logits");
  const std::vector<float> logits = trainer.logits(probe.read_ints(*probe.find("ids")));
  ASSERT_GE(logits.size(), expected.values.size());
  const size_t first = logits.size() - expected.values.size();
  for (size_t i = 0; i < expected.values.size(); ++i)
    ASSERT_EQ(logits[first + i], expected.values[i]) << i;
}

INSTANTIATE_TEST_SUITE_P(Codes, MergeAwareRun, testing::Values("w8", "w4", "w3", "t4"));

TEST_F(MergeAwareBase, WantsTheFloatMaster) {
  options_.merge_aware = merge_aware(options_.model, "w4", 2);
  options_.model = quantized(data_path("nano-e"), "w4");
  try {
    finetune(options_, {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("give the master"), std::string::npos) << e.what();
  }
}

TEST(MergedLinear, GivesTheAdapterTheGradientOfItsUpdateAndInputsThatOfTheRoundedMatrix) {
  constexpr int64_t kRows = 32, kK = 64, kRank = 3, kTokens = 5;
  at::manual_seed(3);
  const at::Tensor w = at::randn({kRows, kK}), rounded = at::randn({kRows, kK});
  FrozenWeights weights(1);
  const auto view = [](const at::Tensor& t) {
    MatrixView v;
    v.code = Code::kF32;
    v.rows = t.size(0);
    v.k = t.size(1);
    v.codes = reinterpret_cast<const uint8_t*>(t.data_ptr<float>());
    return v;
  };
  const MatrixView base = view(w), merged = view(rounded);
  LoraPart lora;
  lora.matrix = &base;
  lora.merged = &merged;
  lora.scale = 2;
  lora.a = at::randn({kRank, kK}).requires_grad_(true);
  lora.b = at::randn({kRows, kRank}).requires_grad_(true);
  const at::Tensor x = at::randn({kTokens, kK}).requires_grad_(true);
  const at::Tensor dy = at::randn({kTokens, kRows});
  const at::Tensor y = merged_linear(weights, lora, x);
  torch::autograd::backward({y}, {dy});

  EXPECT_TRUE(at::equal(y.detach(), at::mm(x.detach(), rounded.t())));
  const auto near = [](const at::Tensor& got, const at::Tensor& wanted) {
    return at::allclose(got, wanted, 1e-5, 1e-5);  // float32 sums in another order
  };
  EXPECT_TRUE(near(x.grad(), at::mm(dy, rounded)));
  const at::Tensor xd = x.detach(), a = lora.a.detach(), b = lora.b.detach();
  EXPECT_TRUE(near(lora.b.grad(), 2 * at::mm(dy.t(), at::mm(xd, a.t()))));
  EXPECT_TRUE(near(lora.a.grad(), 2 * at::mm(at::mm(dy, b).t(), xd)));
}

}  // namespace
}  // namespace lapidary
