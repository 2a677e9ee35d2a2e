// What K and V reach in the cache, against what the architecture allows.
#include "quantize/kv_ranges.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/lap.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

TEST(KvRanges, AreThoseOfTheCacheLayerByLayer) {
  KvRangeOptions options;
  options.n_tokens = 512;
  options.n_threads = 2;
  const auto ranges = measure_kv_ranges(converted_path("nano-e"), options, {});
  const ModelConfig config = LapReader::open(converted_path("nano-e"))->metadata().config;
  ASSERT_EQ(ranges.size(), config.layers.size());
  bool shared = false;
  for (size_t l = 0; l < ranges.size(); ++l) {
    // Gemma 4 normalizes every V to a mean square of 1: some number of a head reaches 1, and none
    // passes the root of head_dim.
    const auto head_dim = static_cast<float>(config.layers[l].head_dim);
    EXPECT_GT(ranges[l].values, 1) << l;
    EXPECT_LE(ranges[l].values, 1.0001f * std::sqrt(head_dim)) << l;
    EXPECT_GT(ranges[l].keys, 0) << l;
    const auto source = static_cast<size_t>(config.layers[l].kv_source);
    shared |= source != l;
    EXPECT_EQ(ranges[l].keys, ranges[source].keys) << l;
    EXPECT_EQ(ranges[l].values, ranges[source].values) << l;
  }
  EXPECT_TRUE(shared);
  options.n_tokens = 2048;  // more text never has less
  const auto more = measure_kv_ranges(converted_path("nano-e"), options, {});
  float gained = 0;
  for (size_t l = 0; l < ranges.size(); ++l) gained += more[l].keys - ranges[l].keys;
  EXPECT_GE(gained, 0);
}

}  // namespace
}  // namespace lapidary
