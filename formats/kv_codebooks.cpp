// The levels of the packed codes: constants that tests/formats/kv_page_test.cpp derives again.
//
// Lloyd-Max levels of N(0, 1), scaled so that the outermost is 127, rounded. Rounding costs 4e-5 of
// relative squared error where the code itself has 2.5e-3 (5 bits) and 9.5e-3 (4). The pairs: 30
// starts of Lloyd's algorithm on 15,000 Gaussian pairs, the best one refined on 300,000 (2.97e-2),
// turned so that the largest coordinate is smallest, rounded the same way.
#include "formats/error.h"
#include "formats/kv_page.h"

namespace lapidary {
namespace {

constexpr int8_t kLevels5[32] = {-127, -105, -90, -79, -70, -61, -54, -47, -41, -35, -29,
                                 -24,  -18,  -13, -8,  -3,  3,   8,   13,  18,  24,  29,
                                 35,   41,   47,  54,  61,  70,  79,  90,  105, 127};
constexpr int8_t kLevels4[16] = {-127, -96, -75, -58, -44, -31, -18, -6,
                                 6,    18,  31,  44,  58,  75,  96,  127};
constexpr int8_t kPairs3[128] = {
    -127, 44,  -122, -7,  -113, -55,  -92, 28,   -90, 77,   -85, -2,  -82, -98, -81, -31,
    -67,  -60, -67,  48,  -63,  19,   -59, -7,   -56, 112,  -51, -33, -47, 72,  -42, -85,
    -42,  39,  -40,  13,  -36,  -11,  -35, -55,  -29, -123, -25, -33, -22, 56,  -20, 29,
    -19,  7,   -18,  87,  -16,  -13,  -14, -73,  -6,  -49,  -5,  122, -2,  41,  -1,  -28,
    0,    18,  2,    -4,  3,    67,   4,   -96,  15,  -67,  19,  -41, 19,  -19, 19,  5,
    20,   27,  20,   48,  21,   91,   30,  -127, 37,  -8,   39,  65,  41,  13,  42,  -86,
    42,   -30, 43,   -55, 43,   37,   50,  125,  59,  -8,   65,  19,  65,  85,  68,  50,
    70,   -34, 73,   -64, 87,   -100, 88,  -6,   93,  30,   106, 71,  111, -43, 127, 9};

}  // namespace

const int8_t* kv_levels(KvCode code) {
  if (code == KvCode::k5Bit) return kLevels5;
  if (code == KvCode::k4Bit) return kLevels4;
  LAPIDARY_CHECK(code == KvCode::k3Bit);
  return kPairs3;
}

float kv_deviation(KvCode code) {
  if (code == KvCode::k5Bit) return 127 / 3.260732f;
  if (code == KvCode::k4Bit) return 127 / 2.732590f;
  LAPIDARY_CHECK(code == KvCode::k3Bit);
  return 127 / 2.676785f;
}

}  // namespace lapidary
