// The blocks of GGUF tensors: where their bits lie and what they mean.
//
// Every type decodes; packing is here for the types we write. Which integers to store is chosen by
// export/. Source of the layouts: ggml-common.h; f16 scales and minima come first or last in a
// block.
#pragma once

#include <cstdint>
#include <span>

#include "formats/ggml_type.h"

namespace lapidary {

// Levels of IQ4_NL and IQ4_XS, by index.
inline constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

// Whole blocks as floats. REQUIRES: blocks.size() == values.size() / block_values * block_bytes.
void decode_blocks(GgmlType type, std::span<const uint8_t> blocks, std::span<float> values);

// One block each. `scale` is fp16. Q8_0: value = scale * q, q in [-128, 127].
void pack_q8_0(uint16_t scale, std::span<const int8_t, 32> q, uint8_t* out);
// Two nibbles per byte, values j and j + 16: Q4_0 (value = scale * (q - 8)) and IQ4_NL (levels).
void pack_nibbles(uint16_t scale, std::span<const uint8_t, 32> q, uint8_t* out);

// Q5_0: value = scale * (q - 16), q in [0, 31].
void pack_q5_0(uint16_t scale, std::span<const uint8_t, 32> q, uint8_t* out);

// IQ4_XS: value = scale * scales[i / 32] * kIq4Levels[q[i]], scales in [-32, 31].
struct Iq4XsBlock {
  uint16_t scale = 0;
  int8_t scales[8] = {};
  uint8_t q[256] = {};
};
void pack(const Iq4XsBlock& block, uint8_t* out);

// value = scale * scales[i / 16] * q[i], q in [-32, 31].
struct Q6KBlock {
  uint16_t scale = 0;
  int8_t scales[16] = {};
  int8_t q[256] = {};
};
void pack(const Q6KBlock& block, uint8_t* out);

// value = scale * scales[i / 32] * q[i] - minimum * minima[i / 32]; scales and minima in [0, 63];
// q in [0, 15] (Q4_K) or [0, 31] (Q5_K).
struct QMinKBlock {
  uint16_t scale = 0, minimum = 0;
  uint8_t scales[8] = {}, minima[8] = {};
  uint8_t q[256] = {};
};
void pack_q4_k(const QMinKBlock& block, uint8_t* out);
void pack_q5_k(const QMinKBlock& block, uint8_t* out);

// value = scale * scales[i / 16] * q[i], q in [-4, 3], scales in [-32, 31].
struct Q3KBlock {
  uint16_t scale = 0;
  int8_t scales[16] = {};
  int8_t q[256] = {};
};
void pack(const Q3KBlock& block, uint8_t* out);

}  // namespace lapidary
