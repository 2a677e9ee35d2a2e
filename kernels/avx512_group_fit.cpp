// The search for scales of groups, sixteen at a time, one per lane of a vector.
#include "kernels/avx512.h"
#include "kernels/avx512_rounding_lanes.h"
#include "kernels/lanes_group_fit.h"

namespace lapidary::avx512 {
namespace {

struct FitLanes : RoundingLanes {
  using Doubles = __m512d;

  static Doubles widen(Floats v, int half) {
    return _mm512_cvtps_pd(half == 0 ? _mm512_castps512_ps256(v) : _mm512_extractf32x8_ps(v, 1));
  }
  static Floats narrow(Doubles low, Doubles high) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high),
                              1);
  }

  static Floats iq4_levels(Floats y) {
    // The sum's lowest byte is q of kIq4Steps, the next 0; what the others look up does not reach
    // the lowest again, but for steps.bytes[0] / 16 in bits that a look-up ignores.
    static_assert((lanes::kIq4Steps.bytes[0] & 8) == 0);
    const Floats limited = min(set(127.0f), max(set(-float{lanes::kIq4Bias}), y));
    const __m512i q = _mm512_castps_si512(add(limited, set(12582912.0f + lanes::kIq4Bias)));
    const __m512i step = look_up(lanes::kIq4Steps, _mm512_srli_epi32(q, 4));
    const __m512i index = _mm512_srli_epi32(_mm512_add_epi8(q, step), 4);
    const __m512i level = _mm512_slli_epi32(look_up(lanes::kIq4LevelBytes, index), 24);
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(level, 24));
  }

 private:
  static __m512i look_up(const lanes::Iq4Table& table, __m512i index) {
    const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(table.bytes));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), index);
  }
};

}  // namespace

void fit_symmetric(const ValueGroups& groups, int low, int high, float* scales) noexcept {
  lanes::fit_symmetric<FitLanes>(groups, low, high, scales);
}

void fit_affine(const ValueGroups& groups, int high, float* scales, float* minima) noexcept {
  lanes::fit_affine<FitLanes>(groups, high, scales, minima);
}

void fit_iq4(const ValueGroups& groups, float* scales) noexcept {
  lanes::fit_iq4<FitLanes>(groups, scales);
}

}  // namespace lapidary::avx512
