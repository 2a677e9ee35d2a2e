// Sizes, refusals and the rollback bound of a sequence's cache.
#include "runtime/kv_cache.h"

#include <gtest/gtest.h>

#include <cstring>

#include "formats/error.h"

namespace lapidary {
namespace {

ModelConfig three_layers() {
  ModelConfig config;
  LayerConfig sliding, global;
  sliding.attention = AttentionKind::kSliding;
  sliding.window = 16;
  sliding.head_dim = 8;
  sliding.n_heads = 4;
  sliding.n_kv_heads = 2;
  global.head_dim = 16;
  global.n_heads = 4;
  global.n_kv_heads = 1;
  LayerConfig shared = sliding;
  global.kv_source = 1;
  config.layers = {sliding, global, shared};
  return config;
}

TEST(Sequence, RingsHoldWindowAndBatchGlobalLayersHoldAll) {
  const Sequence sequence(three_layers(), 1000, KvCode::kF32, 4);
  EXPECT_EQ(sequence.layer(0).slots, 16 + 4);
  EXPECT_EQ(sequence.layer(1).slots, 1000);
  EXPECT_EQ(sequence.layer(2).keys, nullptr);  // reads layer 0's
  EXPECT_EQ(sequence.reserved_bytes(), 2u * 4u * (20 * 2 * 8 + 1000 * 16));
}

TEST(Sequence, HalvesItsBytesInBf16AndShortRingsStopAtTheCapacity) {
  const Sequence sequence(three_layers(), 10, KvCode::kBF16, 4);
  EXPECT_EQ(sequence.layer(0).slots, 10);
  EXPECT_EQ(sequence.reserved_bytes(), 2u * 2u * (10 * 2 * 8 + 10 * 16));
}

TEST(Sequence, TakesNoMemoryUntilItIsWritten) {
  // 2 x 64 GiB of reservation: only possible because nothing is touched.
  ModelConfig config = three_layers();
  config.layers[1].n_kv_heads = 64;
  const Sequence sequence(config, 1 << 24, KvCode::kF32, 4);
  EXPECT_GT(sequence.reserved_bytes(), uint64_t{1} << 36);
  std::memset(sequence.layer(1).keys, 1, 4096);
}

TEST(Sequence, RefusesCapacitiesThatCannotBe) {
  const ModelConfig config = three_layers();
  EXPECT_THROW(Sequence(config, 0, KvCode::kF32, 4), Error);
  EXPECT_THROW(Sequence(config, -1, KvCode::kF32, 4), Error);
  EXPECT_THROW(Sequence(config, int64_t{1} << 40, KvCode::kF32, 4), Error);
  ModelConfig huge = config;
  huge.layers[1].n_kv_heads = 1 << 20;
  huge.layers[1].head_dim = 1024;
  EXPECT_THROW(Sequence(huge, INT32_MAX, KvCode::kF32, 4), Error);
}

TEST(Sequence, GoesBackAsFarAsItsRingsRemember) {
  Sequence sequence(three_layers(), 1000, KvCode::kF32, 4);
  sequence.advance(100);
  sequence.truncate(97);
  EXPECT_EQ(sequence.length(), 97);
  EXPECT_THROW(sequence.truncate(95), Error);  // 5 behind the furthest token
  sequence.truncate(96);
  sequence.advance(2);
  EXPECT_THROW(sequence.truncate(95), Error);  // the furthest is still 100
  EXPECT_THROW(sequence.truncate(99), Error);  // forward
  sequence.truncate(0);
  sequence.advance(3);
  sequence.truncate(1);
  EXPECT_EQ(sequence.length(), 1);
}

TEST(Sequence, GoesBackAnywhereWhileNothingHasWrapped) {
  Sequence sequence(three_layers(), 20, KvCode::kF32, 4);
  sequence.advance(20);
  sequence.truncate(1);
  EXPECT_EQ(sequence.length(), 1);
}

TEST(KvCode, ParsesItsNames) {
  EXPECT_EQ(parse_kv_code("f32"), KvCode::kF32);
  EXPECT_EQ(parse_kv_code("off"), KvCode::kBF16);
  EXPECT_THROW(parse_kv_code("k9v9"), Error);
}

}  // namespace
}  // namespace lapidary
