// The search for scales of groups, eight at a time, one per lane of a vector.
#include "kernels/avx2.h"
#include "kernels/avx2_rounding_lanes.h"
#include "kernels/lanes_group_fit.h"

namespace lapidary::avx2 {
namespace {

struct FitLanes : RoundingLanes {
  using Doubles = __m256d;

  static Doubles widen(Floats v, int half) {
    return _mm256_cvtps_pd(half == 0 ? _mm256_castps256_ps128(v) : _mm256_extractf128_ps(v, 1));
  }
  static Floats narrow(Doubles low, Doubles high) {
    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
  }

  static Floats iq4_levels(Floats y) {
    // The sum's lowest byte is q of kIq4Steps, the next 0; what the others look up does not reach
    // the lowest again, but for steps.bytes[0] / 16 in bits that a look-up ignores.
    static_assert((lanes::kIq4Steps.bytes[0] & 8) == 0);
    const Floats limited = min(set(127.0f), max(set(-float{lanes::kIq4Bias}), y));
    const __m256i q = _mm256_castps_si256(add(limited, set(12582912.0f + lanes::kIq4Bias)));
    const __m256i step = look_up(lanes::kIq4Steps, _mm256_srli_epi32(q, 4));
    const __m256i index = _mm256_srli_epi32(_mm256_add_epi8(q, step), 4);
    const __m256i level = _mm256_slli_epi32(look_up(lanes::kIq4LevelBytes, index), 24);
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(level, 24));
  }

 private:
  static __m256i look_up(const lanes::Iq4Table& table, __m256i index) {
    const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(table.bytes));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), index);
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

}  // namespace lapidary::avx2
