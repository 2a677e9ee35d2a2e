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
  const Sequence sequence(three_layers(), 1000, KvCode::kF32, 60);
  // Whole pages: 128 for 16 + 60, 1024 for 1000.
  EXPECT_EQ(sequence.reserved_bytes(), 2u * 4u * (128 * 2 * 8 + 1024 * 16));
}

TEST(Sequence, HalvesItsBytesInBf16AndShortRingsStopAtTheCapacity) {
  const Sequence sequence(three_layers(), 10, KvCode::kBF16, 60);
  EXPECT_EQ(sequence.reserved_bytes(), 2u * 2u * (64 * 2 * 8 + 64 * 16));
}

TEST(Sequence, SlotsLieInTheirPages) {
  for (const KvCode kv : {KvCode::kF32, KvCode::kBF16}) {
    const Sequence sequence(three_layers(), 1000, kv, 60);
    const int bytes = kv == KvCode::kF32 ? 4 : 2;
    for (const int layer : {0, 1})
      for (const int64_t position : {0, 63, 64, 127, 128, 500, 999})
        for (int head = 0; head < (layer == 0 ? 2 : 1); ++head) {
          const KvPage page = sequence.page(layer, position / 64, head, position / 64);
          const Sequence::Slot slot = sequence.slot(layer, position, head);
          const int64_t at = position % 64 * page.keys.stride * bytes;
          EXPECT_EQ(static_cast<const char*>(page.keys.data) + at, slot.keys);
          EXPECT_EQ(static_cast<const char*>(page.values.data) + at, slot.values);
          EXPECT_EQ(page.keys.code, kv);
        }
    // The ring of layer 0 has two pages.
    EXPECT_EQ(sequence.slot(0, 5, 1).keys, sequence.slot(0, 5 + 128, 1).keys);
    EXPECT_NE(sequence.slot(0, 5, 1).keys, sequence.slot(0, 5 + 64, 1).keys);
  }
}

TEST(Sequence, TakesNoMemoryUntilItIsWritten) {
  // 2 x 64 GiB of reservation: only possible because nothing is touched.
  ModelConfig config = three_layers();
  config.layers[1].n_kv_heads = 64;
  const Sequence sequence(config, 1 << 24, KvCode::kF32, 4);
  EXPECT_GT(sequence.reserved_bytes(), uint64_t{1} << 36);
  std::memset(sequence.slot(1, 1 << 23, 0).keys, 1, 4096);
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
  Sequence sequence(three_layers(), 1000, KvCode::kF32, 60);
  sequence.advance(128);
  EXPECT_EQ(sequence.earliest_rollback(), 0);  // nothing has been overwritten
  sequence.advance(172);
  // The ring holds tokens 172..299, and a query needs the 15 before it.
  EXPECT_EQ(sequence.earliest_rollback(), 187);
  EXPECT_THROW(sequence.truncate(186), Error);
  sequence.truncate(290);
  EXPECT_EQ(sequence.length(), 290);
  EXPECT_EQ(sequence.earliest_rollback(), 187);  // the furthest is still 300
  sequence.truncate(187);
  EXPECT_THROW(sequence.truncate(186), Error);
  EXPECT_THROW(sequence.truncate(188), Error);  // forward
  sequence.truncate(0);
  EXPECT_EQ(sequence.earliest_rollback(), 0);
  sequence.advance(3);
  sequence.truncate(1);
  EXPECT_EQ(sequence.length(), 1);
}

TEST(Sequence, GoesBackAtLeastABatch) {
  for (int batch = 1; batch < 200; ++batch) {
    Sequence sequence(three_layers(), 1000, KvCode::kF32, batch);
    sequence.advance(900);
    EXPECT_LE(sequence.earliest_rollback(), 900 - batch);
  }
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
