// kernels/lanes_kv.h on sixteen lanes.
#include "kernels/avx512_lanes.h"
#include "kernels/lanes_kv.h"

namespace lapidary::avx512 {
namespace {

struct KvLanes : Lanes {
  static Floats flip(Floats v, uint32_t bits) {
    const __m512i x = _mm512_castps_si512(v);
    return _mm512_castsi512_ps(_mm512_mask_xor_epi32(x, static_cast<__mmask16>(bits & 0xffff), x,
                                                     _mm512_set1_epi32(INT32_MIN)));
  }
  // Lanes whose partner is below them become partner - x, the others partner + x.
  static Floats butterfly(Floats v, __mmask16 upper, Floats partner) {
    return _mm512_mask_sub_ps(_mm512_add_ps(partner, v), upper, partner, v);
  }
  static Floats butterflies(Floats v) {
    v = butterfly(v, 0xaaaa, _mm512_permute_ps(v, 0b10110001));
    v = butterfly(v, 0xcccc, _mm512_permute_ps(v, 0b01001110));
    v = butterfly(v, 0xf0f0, _mm512_shuffle_f32x4(v, v, 0b10110001));
    return butterfly(v, 0xff00, _mm512_shuffle_f32x4(v, v, 0b01001110));
  }
  static Floats if_greater(Floats a, Floats b, Floats v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), v);
  }
  static Floats choose_greater(Floats a, Floats b, Floats v, Floats w) {
    return _mm512_mask_mov_ps(w, _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), v);
  }
  static float fold_halves(const Floats* sum) {
    const __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(*sum), _mm512_extractf32x8_ps(*sum, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  static Floats round(Floats v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static void store_bytes(int8_t* p, Floats v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  }
};

}  // namespace

void kv_rotate(float* x, int64_t n_vectors, int64_t stride, int n) noexcept {
  lanes::kv_rotate<KvLanes>(x, n_vectors, stride, n);
}

void kv_unrotate(float* x, int64_t n_vectors, int64_t stride, int n) noexcept {
  lanes::kv_unrotate<KvLanes>(x, n_vectors, stride, n);
}

KvSums choose_kv_levels(KvCode code, const float* x, int n, int n_dims, uint8_t* indices) noexcept {
  return lanes::choose_kv_levels<KvLanes>(code, x, n, n_dims, indices);
}

uint16_t quantize_kv(const float* x, int n, int8_t* levels) noexcept {
  return lanes::quantize_kv<KvLanes>(x, n, levels);
}

float split_query(const float* q, int n, int8_t* high, int8_t* low) noexcept {
  return lanes::split_query<KvLanes>(q, n, high, low);
}

}  // namespace lapidary::avx512
