// kernels/vnni_matmul.h on 64-byte vectors: one line of a panel each, a lane per row.
#include "kernels/avx512.h"
#include "kernels/avx512_vector.h"
#include "kernels/vnni_matmul.h"

namespace lapidary::avx512 {
namespace {

constexpr int kPlane4Bytes = 512, kPlane2Bytes = 256;

__m512i plane4(const uint8_t* plane, int line) {
  const __m512i stored = _mm512_loadu_si512(plane + 64 * (line % 8));
  return _mm512_and_si512(line < 8 ? stored : _mm512_srli_epi16(stored, 4), _mm512_set1_epi8(15));
}

// Where each byte of a line starts in the 64 bits of its 1-bit plane, to have its own bit at
// `place`.
struct alignas(64) Starts {
  uint8_t bit[64];
};
constexpr Starts starts_for(int place) {
  Starts starts{};
  for (int byte = 0; byte < 64; ++byte)
    starts.bit[byte] = static_cast<uint8_t>((byte - place) & 63);
  return starts;
}
// Each byte has its bit of the line at kPlace, and neighbours' bits in the other places.
template <int kPlace>
__m512i plane1(const uint8_t* plane, int line) {
  static constexpr Starts kStarts = starts_for(kPlace);
  int64_t bits;
  std::memcpy(&bits, plane + 8 * line, sizeof bits);
  return _mm512_multishift_epi64_epi8(_mm512_load_si512(kStarts.bit), _mm512_set1_epi64(bits));
}

struct Vector {
  using Ints = __m512i;
  using Floats = __m512;
  static constexpr int kBytes = 64, kLanes = 16;
  static constexpr int kTokensAtOnce = 8;  // 16 of the 32 registers are sums

  static Ints set(int32_t v) { return _mm512_set1_epi32(v); }
  static Floats set(float v) { return _mm512_set1_ps(v); }
  static Ints load(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static void store(uint8_t* p, Ints v) { _mm512_storeu_si512(p, v); }
  static Floats load_floats(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
  static Floats load_rows(const float* p, int64_t n) {
    return n >= kLanes ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(first_lanes(n), p);
  }
  static void store_rows(float* p, int64_t n, Floats v) {
    if (n >= kLanes)
      _mm512_storeu_ps(p, v);
    else
      _mm512_mask_storeu_ps(p, first_lanes(n), v);
  }
  static Ints broadcast4(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  // By hand: GCC 12 copies the sum around the intrinsic each time, which costs a quarter.
  static Ints dot(Ints sum, Ints u8, Ints s8) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u8), "v"(s8));
    return sum;
  }
  static Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Ints multiply(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }

  // level + offset of a tile's line.
  template <Code C>
  static Ints index(const uint8_t* tile, int line, int /*part*/) {
    if constexpr (C == Code::kW4 || C == Code::kW4x) {
      return plane4(tile, line);
    } else if constexpr (C == Code::kW5) {
      const Ints all =
          select(_mm512_set1_epi8(15), plane4(tile, line), plane1<4>(tile + kPlane4Bytes, line));
      return _mm512_and_si512(all, _mm512_set1_epi8(31));
    } else if constexpr (C == Code::kW6) {
      const Ints stored = _mm512_loadu_si512(tile + kPlane4Bytes + 64 * (line % 4));
      const int shift = 4 - 2 * (line / 4);  // the line's two bits to places 4 and 5
      const Ints high =
          shift >= 0 ? _mm512_slli_epi16(stored, shift) : _mm512_srli_epi16(stored, -shift);
      return merge(plane4(tile, line), high, _mm512_set1_epi8(0x30));
    } else if constexpr (C == Code::kW3) {
      const Ints stored = _mm512_loadu_si512(tile + 64 * (line % 4));
      const Ints all = select(_mm512_set1_epi8(3), _mm512_srli_epi16(stored, 2 * (line / 4)),
                              plane1<2>(tile + kPlane2Bytes, line));
      // vpermb looks at six bits: a table of period 8 makes it blind to the neighbours' among them.
      const Ints table = _mm512_set1_epi64(0x0f0c0a0907060401);  // levels(Code::kW3) + 8
      return _mm512_permutexvar_epi8(all, table);
    } else {
      static_assert(C == Code::kW8 || C == Code::kW8x);
      return _mm512_xor_si512(_mm512_loadu_si512(tile + 64 * line), _mm512_set1_epi8(-128));
    }
  }

  // The 16 signed multipliers of a group.
  template <Code C>
  static Ints multipliers(const PanelParts& parts, int64_t group, int /*part*/) {
    int64_t nibbles;
    std::memcpy(&nibbles, parts.magnitudes + 8 * group, sizeof nibbles);
    const __m128i starts =
        _mm_setr_epi8(0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60);
    const __m128i bytes = _mm_and_si128(_mm_multishift_epi64_epi8(starts, _mm_set1_epi64x(nibbles)),
                                        _mm_set1_epi8(15));
    Ints magnitude = _mm512_cvtepu8_epi32(bytes);
    if constexpr (C == Code::kW3) {
      magnitude = _mm512_mask_add_epi32(magnitude, row_mask(parts.fifth_bits + 2 * group),
                                        magnitude, _mm512_set1_epi32(16));
      magnitude = _mm512_min_epi32(magnitude, _mm512_set1_epi32(18));
    }
    if constexpr (C == Code::kW5) magnitude = _mm512_min_epi32(magnitude, _mm512_set1_epi32(7));
    return _mm512_mask_sub_epi32(magnitude, row_mask(parts.signs + 2 * group),
                                 _mm512_setzero_si512(), magnitude);
  }

  // What turns bytes level + offset into level * multiplier + 128, modulo 256.
  struct Factors {
    Ints words;  // the row's multiplier, twice 16 bits
    Ints bias;   // 128 - offset * multiplier, four times
  };
  static Factors factors(Ints multipliers, int offset) {
    const Ints bias = _mm512_sub_epi32(_mm512_set1_epi32(128),
                                       _mm512_mullo_epi32(multipliers, _mm512_set1_epi32(offset)));
    const Ints word = _mm512_and_si512(multipliers, _mm512_set1_epi32(0xffff));
    const Ints byte = _mm512_and_si512(bias, _mm512_set1_epi32(0xff));
    return {_mm512_mullo_epi32(word, _mm512_set1_epi32(0x10001)),
            _mm512_mullo_epi32(byte, _mm512_set1_epi32(0x1010101))};
  }
  static Ints apply(Ints bytes, const Factors& f) {
    const Ints low_byte = _mm512_set1_epi16(0xff);
    const Ints even = _mm512_mullo_epi16(_mm512_and_si512(bytes, low_byte), f.words);
    const Ints odd = _mm512_mullo_epi16(_mm512_andnot_si512(low_byte, bytes), f.words);
    return _mm512_add_epi8(merge(odd, even, low_byte), f.bias);
  }

  static Floats load_scales(const PanelParts& parts, ScaleType type, int64_t block, int /*part*/) {
    const uint8_t* p = parts.scales + 2 * block * kPanelRows;
    return type == ScaleType::kF16 ? load16(reinterpret_cast<const Half*>(p))
                                   : load16(reinterpret_cast<const Brain*>(p));
  }

 private:
  // a | (b & mask).
  static Ints merge(Ints a, Ints b, Ints mask) {
    return _mm512_ternarylogic_epi32(a, b, mask, 0xf0 | (0xcc & 0xaa));
  }
  // a where the mask's bits are set, b elsewhere.
  static Ints select(Ints mask, Ints a, Ints b) {
    return _mm512_ternarylogic_epi32(mask, a, b, (0xf0 & 0xcc) | (~0xf0 & 0xaa));
  }
  static __mmask16 row_mask(const uint8_t* two_bytes) {
    uint16_t bits;
    std::memcpy(&bits, two_bytes, sizeof bits);
    return _cvtu32_mask16(bits);
  }
};

}  // namespace

void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  vnni::matmul_int8<Vector>(w, first_panel, n_panels, x, n_tokens, y, ldy);
}

}  // namespace lapidary::avx512
