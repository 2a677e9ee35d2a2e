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

KvOptions packed(const char* exact) { return *parse_kv({"k4v4", exact, "k8v8", "", false}); }

TEST(Sequence, GoesBackAtLeast64TokensWhenPacked) {
  for (const char* exact : {"64,256", "0,0", "128,64", "0,1024"})
    for (const int batch : {1, 2, 63, 64, 65, 100, 256})
      for (int64_t length = 64; length < 3000; length += 37) {
        ModelConfig config = three_layers();
        config.layers[0].window = 700;  // beyond the shorter tails
        Sequence sequence(config, 5000, packed(exact), batch);
        sequence.advance(length);
        ASSERT_LE(sequence.earliest_rollback(), length - 64)
            << exact << " batch " << batch << " length " << length;
      }
}

TEST(Sequence, QueriesReadPackedWhatTheirPositionsSay) {
  const Sequence sequence(three_layers(), 5000, packed("64,256"), 60);
  for (int64_t block = 0; block < 40; ++block)
    for (int64_t page = 0; page <= block; ++page) {
      const KvPage kv = sequence.page(1, page, 0, block);
      const bool is_middle = page * 64 >= 64 && page * 64 < packed_end({64, 256}, block * 64);
      ASSERT_EQ(is_packed(kv.keys.code), is_middle) << page << " of " << block;
      ASSERT_EQ(kv.keys.code, kv.values.code);
      ASSERT_EQ(is_packed(sequence.page(0, page, 1, block).keys.code), false);  // within the tail
    }
}

// Whatever the steps, each page is packed once, complete, and before a query reads it packed.
TEST(Sequence, PacksEachPageOnceForwards) {
  for (const int64_t chunk : {1, 7, 60}) {
    Sequence sequence(three_layers(), 3000, packed("64,128"), 60);
    int64_t next = 1;
    for (int64_t length = 0; length + chunk < 3000; length += chunk) {
      const auto range = sequence.unpacked_pages(1, length + chunk - 1);
      ASSERT_EQ(range.first, next);
      ASSERT_EQ(range.end * 64, packed_end({64, 128}, length + chunk - 1));
      ASSERT_LE(range.end * 64, std::max<int64_t>(64, length + chunk));
      next = range.end;
      sequence.advance(chunk);
    }
    EXPECT_EQ(sequence.unpacked_pages(2, 2000).end, 0);  // reads layer 0's, which is not packed
  }
}

TEST(Sequence, PacksAgainWhatGoingBackHasTouched) {
  Sequence sequence(three_layers(), 3000, packed("0,0"), 60);
  sequence.advance(1000);  // queries up to 999 read pages below 960 packed
  EXPECT_EQ(sequence.unpacked_pages(1, 1000).first, 15);
  sequence.truncate(970);
  EXPECT_EQ(sequence.unpacked_pages(1, 971).first, 15);  // page 14 ends at 960
  sequence.truncate(950);
  EXPECT_EQ(sequence.unpacked_pages(1, 951).first, 14);  // page 14 has lost tokens
  EXPECT_EQ(sequence.unpacked_pages(1, 961).end, 15);
  sequence.truncate(0);
  EXPECT_EQ(sequence.unpacked_pages(1, 130).first, 0);
  EXPECT_EQ(sequence.unpacked_pages(1, 130).end, 2);
}

TEST(Sequence, RefusesWhatDoesNotFitTheModel) {
  EXPECT_THROW(Sequence(three_layers(), 100, *parse_kv({"k8v8", "", "", "v8", false}), 4), Error);
}

}  // namespace
}  // namespace lapidary
