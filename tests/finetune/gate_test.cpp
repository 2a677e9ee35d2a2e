// The gate's decisions, and how they are written down and read back.
#include "finetune/gate.h"

#include <gtest/gtest.h>

#include "tests/finetune/fixtures.h"

namespace lapidary {
namespace {

Evaluation evaluation(int64_t step, double domain_loss, bool failed) {
  Evaluation e;
  e.step = step;
  e.domain_loss = domain_loss;
  e.failed = failed;
  return e;
}

TEST(BestSoFar, KeepsTheLowestDomainLossAmongThoseThatPass) {
  BestSoFar best;
  EXPECT_FALSE(best.take(evaluation(0, 9, false), true));
  EXPECT_TRUE(best.take(evaluation(10, 3, false), true));
  EXPECT_FALSE(best.take(evaluation(20, 3.5, false), true));
  EXPECT_FALSE(best.take(evaluation(30, 1, true), true));
  EXPECT_FALSE(best.should_stop());
  EXPECT_TRUE(best.take(evaluation(40, 2, false), true));
  EXPECT_FALSE(best.take(evaluation(50, 1, false), false));
  EXPECT_EQ(best.step(), 40);
}

TEST(BestSoFar, KeepsTheLatestWithoutDomainData) {
  BestSoFar best;
  Evaluation e;
  for (e.step = 1; e.step < 4; ++e.step) EXPECT_TRUE(best.take(e, true));
  EXPECT_EQ(best.step(), 3);
}

TEST(BestSoFar, StopsAfterTwoFailuresInARow) {
  BestSoFar best;
  for (const bool failed : {true, false, true}) best.take(evaluation(10, 1, failed), true);
  EXPECT_FALSE(best.should_stop());
  best.take(evaluation(20, 1, true), true);
  EXPECT_TRUE(best.should_stop());
}

TEST(Evaluation, ComesBackFromTheLogAsFarAsDecisionsNeedIt) {
  Evaluation full = evaluation(7, 1.25, true);
  full.general_loss = 2;
  full.general_rise = 0.5;
  full.general_low = 0.25;
  full.general_high = 0.75;
  full.general_kl = 0.125;
  const std::string log =
      "{\"step\":6,\"loss\":3}\n" + to_json_line(full) + to_json_line(evaluation(8, 1, false));
  const std::vector<Evaluation> back = evaluations_of_log(log);
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(back[0].step, 7);
  EXPECT_EQ(back[0].domain_loss, 1.25);
  EXPECT_TRUE(back[0].failed);
  EXPECT_FALSE(back[1].failed);
  EXPECT_NE(describe(full).find("general +0.5000 nats [+0.2500, +0.7500]"), std::string::npos);
}

// Training on other answers than the base gives raises the loss on what it said before.
TEST(Gate, FailsWhenTheGeneralLossHasRisenBeyondDoubt) {
  const auto model = load_converted(data_path("nano-e"));
  PeftConfig config;
  config.rank = 4;
  config.target_modules = {"q_proj", "v_proj", "up_proj"};
  Trainer trainer(model, Trainer::initial_adapter(*model, config, 1), {});
  std::vector<TokenRow> general;
  for (const char* text : {"The package manager installs", "The user may set", "This file holds",
                           "A list of all", "The kernel reads"}) {
    TokenRow row;
    row.ids = model->tokenizer().encode(text, {.add_special = true});
    row.labels = row.ids;
    row.lengths = {static_cast<int64_t>(row.ids.size())};
    row.keeps = {Keep::kAll};
    general.push_back(row);
  }
  Gate gate({.nats = 0.02}, {}, general, {}, {});
  const Evaluation first = gate.start(trainer);
  EXPECT_FALSE(first.failed);
  EXPECT_EQ(first.general_rise, 0);
  EXPECT_EQ(first.general_kl, 0);
  const std::vector<TokenRow> other{batch_rows(data_path("nano-e"), 0, 4)};
  for (int i = 0; i < 30; ++i) trainer.step(other, 1e-2);
  const Evaluation later = gate.evaluate(trainer, 30);
  EXPECT_TRUE(later.failed);
  EXPECT_GT(*later.general_low, 0.02);
  EXPECT_GT(*later.general_kl, 0.1);
}

}  // namespace
}  // namespace lapidary
