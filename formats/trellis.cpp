// The levels, and the definition of decoding, symbol by symbol.
#include "formats/trellis.h"

#include "formats/error.h"

namespace lapidary {

// Level 128 + i is 127 / 3.6 z (1 + 0.25 (z / z_last)^4), rounded, z the normal quantile of (128.5
// + i) / 256 and z_last that of 255.5 / 256.
const int8_t kTrellisLevels[256] = {
    -127, -102, -91, -84, -80, -76, -72, -70, -67, -65, -63, -62, -60, -59, -57, -56, -55, -53, -52,
    -51,  -50,  -49, -48, -47, -47, -46, -45, -44, -43, -43, -42, -41, -40, -40, -39, -39, -38, -37,
    -37,  -36,  -35, -35, -34, -34, -33, -33, -32, -32, -31, -31, -30, -30, -29, -29, -28, -28, -27,
    -27,  -26,  -26, -25, -25, -24, -24, -24, -23, -23, -22, -22, -21, -21, -21, -20, -20, -19, -19,
    -19,  -18,  -18, -17, -17, -17, -16, -16, -16, -15, -15, -14, -14, -14, -13, -13, -13, -12, -12,
    -11,  -11,  -11, -10, -10, -10, -9,  -9,  -9,  -8,  -8,  -7,  -7,  -7,  -6,  -6,  -6,  -5,  -5,
    -5,   -4,   -4,  -4,  -3,  -3,  -3,  -2,  -2,  -2,  -1,  -1,  -1,  0,   0,   1,   1,   1,   2,
    2,    2,    3,   3,   3,   4,   4,   4,   5,   5,   5,   6,   6,   6,   7,   7,   7,   8,   8,
    9,    9,    9,   10,  10,  10,  11,  11,  11,  12,  12,  13,  13,  13,  14,  14,  14,  15,  15,
    16,   16,   16,  17,  17,  17,  18,  18,  19,  19,  19,  20,  20,  21,  21,  21,  22,  22,  23,
    23,   24,   24,  24,  25,  25,  26,  26,  27,  27,  28,  28,  29,  29,  30,  30,  31,  31,  32,
    32,   33,   33,  34,  34,  35,  35,  36,  37,  37,  38,  39,  39,  40,  40,  41,  42,  43,  43,
    44,   45,   46,  47,  47,  48,  49,  50,  51,  52,  53,  55,  56,  57,  59,  60,  62,  63,  65,
    67,   70,   72,  76,  80,  84,  91,  102, 127};

void trellis_levels(int bits, std::span<const uint8_t> symbols, std::span<int8_t> levels) {
  const size_t n = symbols.size();
  LAPIDARY_CHECK(levels.size() == n && n * static_cast<size_t>(bits) >= kTrellisStateBits);
  for (size_t t = 0; t < n; ++t) {
    uint32_t state = 0;
    for (int i = 0; i * bits < kTrellisStateBits; ++i)
      state |= uint32_t{symbols[(t + static_cast<size_t>(i)) % n]} << (i * bits);
    levels[t] = trellis_level(bits, state);
  }
}

}  // namespace lapidary
