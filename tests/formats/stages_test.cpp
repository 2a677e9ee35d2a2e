// Three stages in order, each item through all of them, and Errors of any stage at the caller.
#include "formats/stages.h"

#include <gtest/gtest.h>

#include <vector>

#include "formats/error.h"

namespace lapidary {
namespace {

TEST(Stages, EveryItemPassesAllStagesInOrder) {
  for (const int64_t n : {0, 1, 2, 3, 4, 100}) {
    std::vector<int64_t> worked, written;
    run_in_stages<int64_t>(
        n, [](int64_t i, int64_t& item) { item = i * 10; },
        [&](int64_t& item) { worked.push_back(item++); },
        [&](int64_t& item) { written.push_back(item); });
    ASSERT_EQ(worked.size(), static_cast<size_t>(n));
    ASSERT_EQ(written.size(), static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(worked[static_cast<size_t>(i)], i * 10);
      EXPECT_EQ(written[static_cast<size_t>(i)], i * 10 + 1);
    }
  }
}

TEST(Stages, AnErrorOfAnyStageEndsTheStream) {
  for (int bad_stage = 0; bad_stage < 3; ++bad_stage)
    for (const int64_t bad_item : {0, 1, 5, 9}) {
      int64_t written = 0;
      const auto stage = [&](int number, int64_t item) {
        if (number == bad_stage && item == bad_item) fail(ErrorCode::kIo, "full");
      };
      EXPECT_THROW(run_in_stages<int64_t>(
                       10,
                       [&](int64_t i, int64_t& item) {
                         item = i;
                         stage(0, i);
                       },
                       [&](int64_t& item) { stage(1, item); },
                       [&](int64_t& item) {
                         stage(2, item);
                         ++written;
                       }),
                   Error);
      EXPECT_LE(written, bad_item) << "stage " << bad_stage;
    }
}

}  // namespace
}  // namespace lapidary
