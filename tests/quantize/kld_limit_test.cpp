// A limit of loss is kept by what is measured, not by what is predicted.
#include "quantize/kld_limit.h"

#include <gtest/gtest.h>

namespace lapidary {
namespace {

// Four tensors alike: 100 bytes at a cost of 4, up to 400 at 1.
Menu small_menu() {
  Menu menu(4);
  for (auto& choices : menu)
    for (uint64_t n = 1; n <= 4; ++n)
      choices.push_back({Code::kW4, 100 * n, 4.0 / static_cast<double>(n)});
  return menu;
}

class Limit : public ::testing::Test {
 protected:
  // Settles where the truth is `factor` times the prediction; null: the best is predicted above.
  std::optional<KldLimit::Choice> settle(double nats, double factor) {
    KldLimit limit(nats, [this](const Selection& s) { return kld_of(menu_, s); });
    const auto choose = [&] { return *limit.choose(menu_); };
    if (!limit.choose(menu_)) return std::nullopt;
    Events events;
    events.on_note = [this](const std::string& note) { notes_ += note + "\n"; };
    n_measured_ = 0;
    const auto measure = [&](const Selection& s) {
      ++n_measured_;
      return factor * kld_of(menu_, s);
    };
    return limit.settle(menu_, choose(), measure, choose, events);
  }

  const Menu menu_ = small_menu();
  std::string notes_;
  int n_measured_ = 0;
};

TEST_F(Limit, AnHonestPredictionIsMeasuredOnce) {
  const auto choice = settle(8, 1);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->measured, 8);
  EXPECT_EQ(bytes_of(menu_, choice->selection), 800u);
  EXPECT_EQ(n_measured_, 1);
}

TEST_F(Limit, WhatIsWorseThanPredictedGetsMoreBytesAndWhatIsBetterFewer) {
  const auto worse = settle(8, 1.5), better = settle(8, 0.5);
  ASSERT_TRUE(worse && better);
  EXPECT_LE(worse->measured, 8);
  EXPECT_LE(kld_of(menu_, worse->selection), 8 / 1.5);
  EXPECT_GT(bytes_of(menu_, worse->selection), 800u);
  EXPECT_EQ(bytes_of(menu_, better->selection), 400u);  // all of it costs 16, and that is halved
  EXPECT_EQ(better->measured, 8);
}

TEST_F(Limit, OnceMissedItAimsAPercentLower) {
  // Exactly on the limit if the correction is right, which a next choice at 8 / 1.5 would be.
  const auto choice = settle(8 * 1.0001, 1.5);
  ASSERT_TRUE(choice && choice->measured);
  EXPECT_LE(1.5 * kld_of(menu_, choice->selection), 0.99 * 8 * 1.0001);
}

TEST_F(Limit, WhatTheBestExceedsIsNotChosen) {
  EXPECT_FALSE(settle(3.9, 1));  // four tensors at 1 each
  EXPECT_TRUE(settle(4, 1));
}

TEST_F(Limit, AMeasurementThatNeverFitsIsSaid) {
  KldLimit limit(8, [this](const Selection& s) { return kld_of(menu_, s); });
  Events events;
  events.on_note = [this](const std::string& note) { notes_ += note + "\n"; };
  // Always just above, whatever is chosen: a correction that does not help.
  const auto choice = limit.settle(
      menu_, *limit.choose(menu_), [](const Selection&) { return 8.01; },
      [&] { return limit.choose(menu_).value_or(best_of(menu_)); }, events);
  EXPECT_FALSE(choice.measured);
  EXPECT_NE(notes_.find("no choice was measured within 8"), std::string::npos) << notes_;
}

}  // namespace
}  // namespace lapidary
