// kernels/vnni_matmul.h on 32-byte vectors: half a line of a panel each, a lane per row.
#include "kernels/avx2_decode.h"
#include "kernels/avx2vnni.h"
#include "kernels/vnni_matmul.h"

namespace lapidary::avx2vnni {
namespace {

struct Vector {
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr int kBytes = 32, kLanes = 8;
  static constexpr int kTokensAtOnce = 6;  // 12 of the 16 registers are sums

  static Ints set(int32_t v) { return _mm256_set1_epi32(v); }
  static Floats set(float v) { return _mm256_set1_ps(v); }
  static Ints load(const uint8_t* p) { return avx2::load_bytes(p); }
  static void store(uint8_t* p, Ints v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static Floats load_floats(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
  static Floats load_rows(const float* p, int64_t n) {
    return n >= kLanes ? _mm256_loadu_ps(p) : n > 0 ? avx2::load_partial(p, n) : set(0.0f);
  }
  static void store_rows(float* p, int64_t n, Floats v) {
    if (n >= kLanes)
      _mm256_storeu_ps(p, v);
    else if (n > 0)
      avx2::store_partial(p, n, v);
  }
  static Ints broadcast4(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
  }
  // By hand: GCC 12 copies the sum around the intrinsic each time, which costs a quarter.
  static Ints dot(Ints sum, Ints u8, Ints s8) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(u8), "x"(s8));
    return sum;
  }
  static Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static Ints multiply(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(v); }

  // level + offset of half a tile's line.
  template <Code C>
  static Ints index(const uint8_t* tile, int line, int part) {
    return _mm256_add_epi8(avx2::decode_half_line<C>(tile, line, kBytes * part),
                           _mm256_set1_epi8(static_cast<char>(vnni::kOffset<C>)));
  }

  // Eight of the 16 signed multipliers of a group.
  template <Code C>
  static Ints multipliers(const PanelParts& parts, int64_t group, int part) {
    constexpr int kLargest = C == Code::kW3 ? 18 : C == Code::kW5 ? 7 : 15;
    const __m128i bytes = avx2::load_multipliers(parts, group, kLargest);
    return _mm256_cvtepi8_epi32(part == 0 ? bytes : _mm_srli_si128(bytes, kLanes));
  }

  // What turns bytes level + offset into level * multiplier + 128, modulo 256.
  struct Factors {
    Ints words;  // the row's multiplier, twice 16 bits
    Ints bias;   // 128 - offset * multiplier, four times
  };
  static Factors factors(Ints multipliers, int offset) {
    const Ints bias = _mm256_sub_epi32(_mm256_set1_epi32(128),
                                       _mm256_mullo_epi32(multipliers, _mm256_set1_epi32(offset)));
    const Ints word = _mm256_and_si256(multipliers, _mm256_set1_epi32(0xffff));
    const Ints byte = _mm256_and_si256(bias, _mm256_set1_epi32(0xff));
    return {_mm256_mullo_epi32(word, _mm256_set1_epi32(0x10001)),
            _mm256_mullo_epi32(byte, _mm256_set1_epi32(0x1010101))};
  }
  static Ints apply(Ints bytes, const Factors& f) {
    const Ints low_byte = _mm256_set1_epi16(0xff);
    const Ints even = _mm256_mullo_epi16(_mm256_and_si256(bytes, low_byte), f.words);
    const Ints odd = _mm256_mullo_epi16(_mm256_andnot_si256(low_byte, bytes), f.words);
    return _mm256_add_epi8(_mm256_or_si256(odd, _mm256_and_si256(even, low_byte)), f.bias);
  }

  static Floats load_scales(const PanelParts& parts, ScaleType type, int64_t block, int part) {
    return avx2::load_scales(parts, type, block, kLanes * part);
  }
};

}  // namespace

void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  vnni::matmul_int8<Vector>(w, first_panel, n_panels, x, n_tokens, y, ldy);
}

}  // namespace lapidary::avx2vnni
