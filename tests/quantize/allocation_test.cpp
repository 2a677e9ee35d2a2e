// The knapsack against trying everything, and its limits.
#include "quantize/allocation.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace lapidary {
namespace {

// Six tensors of three to five choices: costs fall with bytes, not always convexly.
Menu random_menu(std::mt19937& random) {
  Menu menu;
  for (int t = 0; t < 6; ++t) {
    std::vector<CodeChoice>& choices = menu.emplace_back();
    uint64_t bytes = 100 + random() % 400;
    double kld = 1.0 + random() % 1000;
    for (int i = 0; i < 3 + static_cast<int>(random() % 3); ++i) {
      choices.push_back({Code::kW4, bytes, kld});
      bytes += 20 + random() % 200;
      kld *= 0.2 + 0.01 * static_cast<double>(random() % 60);
    }
  }
  return menu;
}

// f(selection) for every selection of the menu.
template <class F>
void for_all(const Menu& menu, F&& f) {
  Selection selection(menu.size(), 0);
  for (;;) {
    f(selection);
    size_t t = 0;
    while (t < menu.size() && ++selection[t] == menu[t].size()) selection[t++] = 0;
    if (t == menu.size()) return;
  }
}

TEST(Allocation, FindsTheBestOfAllWithinABudget) {
  std::mt19937 random(1);
  for (int i = 0; i < 40; ++i) {
    const Menu menu = random_menu(random);
    const uint64_t budget = bytes_of(menu, Selection(menu.size(), 0)) + random() % 1500;
    double best = std::numeric_limits<double>::infinity();
    for_all(menu, [&](const Selection& s) {
      if (bytes_of(menu, s) <= budget) best = std::min(best, kld_of(menu, s));
    });
    const auto chosen = cheapest_within(menu, budget);
    ASSERT_TRUE(chosen);
    EXPECT_LE(bytes_of(menu, *chosen), budget);
    EXPECT_NEAR(kld_of(menu, *chosen), best, best * 1e-12);
  }
}

TEST(Allocation, KeepsALimitWithFewBytes) {
  std::mt19937 random(2);
  for (int i = 0; i < 40; ++i) {
    const Menu menu = random_menu(random);
    double worst = kld_of(menu, Selection(menu.size(), 0));
    const double limit = worst * 0.01 * static_cast<double>(15 + random() % 80);
    uint64_t best = std::numeric_limits<uint64_t>::max();
    for_all(menu, [&](const Selection& s) {
      if (kld_of(menu, s) <= limit) best = std::min(best, bytes_of(menu, s));
    });
    const auto chosen = smallest_within(menu, limit);
    if (best == std::numeric_limits<uint64_t>::max()) {
      EXPECT_FALSE(chosen);
      continue;
    }
    ASSERT_TRUE(chosen);
    EXPECT_LE(kld_of(menu, *chosen), limit);
    EXPECT_EQ(bytes_of(menu, *chosen), best);
  }
}

// Steps of small tensors save more per byte than the one of a large tensor, and fill so much of the
// budget that it no longer fits.
TEST(Allocation, LeavesRoomForALargeTensor) {
  Menu menu{{{Code::kT3, 800'000'000, 10.0}, {Code::kT4, 1'062'000'000, 2.0}}};
  for (int t = 0; t < 8; ++t)
    menu.push_back({{Code::kT3, 10'000'000, 0.5}, {Code::kT4, 14'000'000, 0.125}});
  // Room for the large step, or for all small ones; larger numbers than cells.
  const auto chosen = cheapest_within(menu, 880'000'000 + 262'500'000);
  ASSERT_TRUE(chosen);
  EXPECT_EQ((*chosen)[0], 1u);
  const auto smallest = smallest_within(menu, 6.0);
  ASSERT_TRUE(smallest);
  EXPECT_EQ(bytes_of(menu, *smallest), 880'000'000u + 262'000'000);
}

TEST(Allocation, ReachesALimitThatOnlyTheBestOfAllKeep) {
  Menu menu;
  for (uint64_t t = 0; t < 60; ++t)
    menu.push_back({{Code::kT3, 100'000'001 + t, 3.0}, {Code::kT4, 133'333'337 + 7 * t, 1.0}});
  EXPECT_EQ(smallest_within(menu, 60.0), Selection(60, 1));
  EXPECT_FALSE(smallest_within(menu, 59.0));
}

TEST(Allocation, SaysWhenNothingFits) {
  const Menu menu{{{Code::kW3, 100, 2.0}, {Code::kW4, 130, 1.0}}, {{Code::kW8, 50, 0.5}}};
  EXPECT_FALSE(cheapest_within(menu, 149));
  EXPECT_EQ(cheapest_within(menu, 150), (Selection{0, 0}));
  EXPECT_EQ(cheapest_within(menu, 180), (Selection{1, 0}));
  EXPECT_FALSE(smallest_within(menu, 1.49));
  EXPECT_EQ(smallest_within(menu, 1.5), (Selection{1, 0}));
  EXPECT_EQ(smallest_within(menu, 99), (Selection{0, 0}));
}

TEST(Allocation, NeverTakesMoreBytesForMoreCost) {
  // The second choice is larger and worse; the third is as small as the first, and better.
  const Menu menu{{{Code::kW3, 100, 2.0}, {Code::kW4, 130, 3.0}, {Code::kW5, 100, 1.0}}};
  EXPECT_EQ(cheapest_within(menu, 1000), (Selection{2}));
  EXPECT_EQ(smallest_within(menu, 2.5), (Selection{2}));
  // Nothing is paid for what saves nothing, in whatever order choices stand.
  EXPECT_EQ(cheapest_within({{{Code::kW8, 300, 0.0}, {Code::kW3, 100, 0.0}}}, 1000),
            (Selection{1}));
}

TEST(Allocation, TheFrontierRisesInBytesAndFallsInCost) {
  std::mt19937 random(3);
  const Menu menu = random_menu(random);
  const std::vector<Selection> points = frontier(menu);
  for (size_t i = 1; i < points.size(); ++i) {
    EXPECT_GT(bytes_of(menu, points[i]), bytes_of(menu, points[i - 1]));
    EXPECT_LT(kld_of(menu, points[i]), kld_of(menu, points[i - 1]));
  }
}

}  // namespace
}  // namespace lapidary
