// Blocks of GGUF tensors: packing is the inverse of decoding, and decoding is what ggml does.
#include "formats/ggml_blocks.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace lapidary {
namespace {

constexpr uint16_t kHalf = 0x3800, kQuarter = 0x3400;  // 0.5 and 0.25 in fp16

class BlocksTest : public ::testing::Test {
 protected:
  int draw(int low, int high) { return std::uniform_int_distribution(low, high)(random_); }
  std::vector<float> decode(GgmlType type) {
    std::vector<float> values(static_cast<size_t>(traits(type).block_values));
    decode_blocks(type, std::span(block_, static_cast<size_t>(traits(type).block_bytes)), values);
    return values;
  }
  std::mt19937 random_{1};
  uint8_t block_[256];
};

TEST_F(BlocksTest, PackAndDecodeSmallBlocks) {
  int8_t bytes[32];
  for (int8_t& q : bytes) q = static_cast<int8_t>(draw(-128, 127));
  pack_q8_0(kHalf, bytes, block_);
  std::vector<float> values = decode(GgmlType::kQ8_0);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(values[i], 0.5f * bytes[i]);

  uint8_t nibbles[32];
  for (uint8_t& q : nibbles) q = static_cast<uint8_t>(draw(0, 15));
  pack_nibbles(kHalf, nibbles, block_);
  values = decode(GgmlType::kQ4_0);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(values[i], 0.5f * (nibbles[i] - 8));
  values = decode(GgmlType::kIQ4_NL);
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(values[i], 0.5f * kIq4Levels[nibbles[i]]);
}

TEST_F(BlocksTest, PackAndDecodeSymmetricSuperBlocks) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    Q6KBlock six;
    Q3KBlock three;
    six.scale = kHalf;
    three.scale = kQuarter;
    for (size_t i = 0; i < 16; ++i) {
      six.scales[i] = static_cast<int8_t>(draw(-128, 127));
      three.scales[i] = static_cast<int8_t>(draw(-32, 31));
    }
    for (size_t i = 0; i < 256; ++i) {
      six.q[i] = static_cast<int8_t>(draw(-32, 31));
      three.q[i] = static_cast<int8_t>(draw(-4, 3));
    }
    pack(six, block_);
    std::vector<float> values = decode(GgmlType::kQ6_K);
    for (size_t i = 0; i < 256; ++i) EXPECT_EQ(values[i], 0.5f * (six.scales[i / 16] * six.q[i]));
    pack(three, block_);
    values = decode(GgmlType::kQ3_K);
    for (size_t i = 0; i < 256; ++i)
      EXPECT_EQ(values[i], 0.25f * (three.scales[i / 16] * three.q[i]));
  }
}

TEST_F(BlocksTest, PackAndDecodeSuperBlocksWithMinima) {
  for (const int high : {15, 31}) {
    QMinKBlock block;
    block.scale = kHalf;
    block.minimum = kQuarter;
    for (size_t i = 0; i < 8; ++i) {
      block.scales[i] = static_cast<uint8_t>(draw(0, 63));
      block.minima[i] = static_cast<uint8_t>(draw(0, 63));
    }
    for (uint8_t& q : block.q) q = static_cast<uint8_t>(draw(0, high));
    high == 15 ? pack_q4_k(block, block_) : pack_q5_k(block, block_);
    const std::vector<float> values = decode(high == 15 ? GgmlType::kQ4_K : GgmlType::kQ5_K);
    for (size_t i = 0; i < 256; ++i)
      EXPECT_EQ(values[i],
                0.5f * (block.scales[i / 32] * block.q[i]) - 0.25f * block.minima[i / 32]);
  }
}

}  // namespace
}  // namespace lapidary
