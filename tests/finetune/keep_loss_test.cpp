// KL to the base: its value and gradient against LibTorch's own, what it counts, and that it holds
// a tuned model back.
#include "finetune/keep_loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "finetune/model_twin.h"
#include "finetune/trainer.h"
#include "tests/finetune/fixtures.h"

namespace lapidary {
namespace {

TEST(HeadKl, MatchesDenseLibTorchWithAndWithoutSoftcap) {
  at::manual_seed(5);
  const at::Tensor w = at::randn({300, 64});
  MatrixView matrix;
  matrix.code = Code::kF32;
  matrix.rows = 300;
  matrix.k = 64;
  matrix.codes = reinterpret_cast<const uint8_t*>(w.data_ptr<float>());
  FrozenWeights weights(2);
  const at::Tensor base = at::randn({40, 64});
  for (const double softcap : {0.0, 5.0}) {
    const HeadView head{weights, matrix, softcap};
    const auto logits = [&](const at::Tensor& h) {
      const at::Tensor z = at::mm(h, w.t());
      return softcap > 0 ? softcap * at::tanh(z / softcap) : z;
    };
    const at::Tensor x = at::randn({40, 64}).requires_grad_(true);
    const std::vector<double> weights(40, 0.25);
    std::vector<double> each;
    const at::Tensor kl = head_kl(head, x, base, weights, each);
    torch::autograd::backward({kl}, {});
    const at::Tensor y = x.detach().clone().requires_grad_(true);
    const at::Tensor dense =
        0.25 * at::kl_div(logits(y).log_softmax(1), logits(base).log_softmax(1), at::Reduction::Sum,
                          /*log_target=*/true);
    torch::autograd::backward({dense}, {});
    // Float32 sums in another order.
    EXPECT_NEAR(kl.item<double>(), dense.item<double>(), 1e-5 * dense.item<double>());
    EXPECT_LT(((x.grad() - y.grad()).norm() / y.grad().norm()).item<double>(), 1e-5);
  }
}

class KeepsBase : public testing::Test {
 protected:
  KeepsBase()
      : rows_{batch_rows(data_path("nano-e"), 0, 2), batch_rows(data_path("nano-e"), 2, 2)} {
    config_.rank = 4;
    config_.target_modules = {"q_proj", "up_proj"};
  }
  Trainer trainer(double kl_to_base) const {
    TrainerOptions options;
    options.kl_to_base = kl_to_base;
    options.n_threads = 2;
    return Trainer(model_, Trainer::initial_adapter(*model_, config_, 1), options);
  }

  std::shared_ptr<const Model> model_ = load_converted(data_path("nano-e"));
  PeftConfig config_;
  std::vector<TokenRow> rows_;
};

TEST_F(KeepsBase, IsZeroBeforeTrainingAndCountsOnlyKeptExamples) {
  Trainer fresh = trainer(0);
  rows_[0].keeps = {Keep::kNothing, Keep::kAll};
  const auto before = fresh.measure(rows_);
  EXPECT_EQ(before[0].kl, 0);
  EXPECT_EQ(before[1].n_kept, 0);
  TokenRow second = rows_[0];  // the kept example alone
  const auto length = static_cast<int64_t>(second.lengths[1]);
  second.ids.erase(second.ids.begin(), second.ids.end() - length);
  second.labels.erase(second.labels.begin(), second.labels.end() - length);
  second.lengths = {length};
  second.keeps = {Keep::kAll};
  for (int i = 0; i < 3; ++i) fresh.step(rows_, 1e-2);
  const double within = fresh.measure(rows_)[0].kl;
  EXPECT_GT(within, 0.1);
  EXPECT_NEAR(within, fresh.measure({&second, 1})[0].kl, 1e-5 * within);
}

// Of what is kept whole, every token counts but the first of each example; of prompts, what is
// read.
TEST_F(KeepsBase, CountsPromptsAndAnswersApart) {
  TokenRow row;
  row.ids = {2, 10, 11, 12, 2, 20, 21};
  row.labels = {kNotLearned, kNotLearned, kNotLearned, 12, kNotLearned, kNotLearned, 21};
  row.lengths = {4, 3};
  EXPECT_EQ(row.n_learned(), 2);
  EXPECT_EQ(row.n_kept(Keep::kAll), 0);
  row.keeps = {Keep::kPrompt, Keep::kAll};
  EXPECT_EQ(row.n_kept(Keep::kPrompt), 2);
  EXPECT_EQ(row.n_kept(Keep::kAll), 2);
  EXPECT_EQ(measured_tokens(row, {}), (std::vector<int64_t>{2, 5}));
  EXPECT_EQ(measured_tokens(row, {1, 0}), (std::vector<int64_t>{2, 4, 5}));
  EXPECT_EQ(measured_tokens(row, {1, 1}), (std::vector<int64_t>{0, 1, 2, 4, 5}));
}

// Nothing is to be learned from a kept example without labels, and it still holds the model back;
// so do prompts alone.
TEST_F(KeepsBase, HoldsByUnlearnedExamplesAndByPrompts) {
  std::vector<TokenRow> kept{rows_[1]};
  kept[0].labels.assign(kept[0].ids.size(), kNotLearned);
  kept[0].keeps.assign(kept[0].lengths.size(), Keep::kAll);
  const auto kl_after = [&](double kl_to_base, double kl_prompts) {
    TrainerOptions options;
    options.kl_to_base = kl_to_base;
    options.kl_prompts = kl_prompts;
    options.n_threads = 2;
    Trainer tuned(model_, Trainer::initial_adapter(*model_, config_, 1), options);
    std::vector<TokenRow> rows{rows_[0], kept[0]};
    rows[0].keeps.assign(rows[0].lengths.size(), Keep::kPrompt);
    for (int i = 0; i < 10; ++i) tuned.step(rows, 5e-3);
    return tuned.measure(kept)[0].kl;
  };
  const double free = kl_after(0, 0);
  EXPECT_LT(kl_after(5, 0), 0.5 * free);
  EXPECT_LT(kl_after(0, 5), free);
}

TEST_F(KeepsBase, HoldsTheTunedModelNearItsBase) {
  rows_[0].keeps = {Keep::kAll, Keep::kAll};
  double kl[2];
  for (const double beta : {0.0, 5.0}) {
    Trainer tuned = trainer(beta);
    for (int i = 0; i < 10; ++i) {
      const StepResult result = tuned.step(rows_, 5e-3);
      EXPECT_EQ(result.kl > 0, beta > 0 && i > 0);
    }
    const RowMeasure m = tuned.measure(rows_)[0];
    kl[beta > 0] = m.kl / static_cast<double>(m.n_kept);
  }
  EXPECT_LT(kl[1], 0.5 * kl[0]);
}

}  // namespace
}  // namespace lapidary
