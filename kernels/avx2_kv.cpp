// kernels/lanes_kv.h on eight lanes.
#include "kernels/avx2_lanes.h"
#include "kernels/lanes_kv.h"

namespace lapidary::avx2 {
namespace {

struct KvLanes : Lanes {
  static Floats flip(Floats v, uint32_t bits) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set =
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), bit), bit);
    return _mm256_xor_ps(v, _mm256_and_ps(_mm256_castsi256_ps(set), _mm256_set1_ps(-0.0f)));
  }
  // Lanes whose partner is below them become partner - x, the others partner + x.
  static Floats butterflies(Floats v) {
    const __m256 flip1 = _mm256_setr_ps(0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f);
    const __m256 flip2 = _mm256_setr_ps(0, 0, -0.0f, -0.0f, 0, 0, -0.0f, -0.0f);
    const __m256 flip4 = _mm256_setr_ps(0, 0, 0, 0, -0.0f, -0.0f, -0.0f, -0.0f);
    v = _mm256_add_ps(_mm256_permute_ps(v, 0b10110001), _mm256_xor_ps(v, flip1));
    v = _mm256_add_ps(_mm256_permute_ps(v, 0b01001110), _mm256_xor_ps(v, flip2));
    return _mm256_add_ps(_mm256_permute2f128_ps(v, v, 1), _mm256_xor_ps(v, flip4));
  }
  static Floats if_greater(Floats a, Floats b, Floats v) {
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ), v);
  }
  static Floats choose_greater(Floats a, Floats b, Floats v, Floats w) {
    return _mm256_blendv_ps(w, v, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
  }
  static float fold_halves(const Floats* sum) {
    const __m256 eight = _mm256_add_ps(sum[0], sum[1]);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  static Floats round(Floats v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static void store_bytes(int8_t* p, Floats v) {
    const __m256i whole = _mm256_cvtps_epi32(v);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
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

}  // namespace lapidary::avx2
