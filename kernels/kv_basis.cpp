// The basis of V-only layers: rotary dims first and unmixed, the others rotated together; and keys
// rebuilt from values that are still floats.
#include <algorithm>
#include <cstring>

#include "formats/dtype.h"
#include "kernels/kv_attention.h"

namespace lapidary {
namespace {

// Where dim i of the model's order lies in the basis, before the rotation.
int basis_dim(int i, int head_dim, int n_rotary) {
  const int pairs = n_rotary / 2, half = head_dim / 2;
  if (i < pairs) return i;
  if (i < half) return i + pairs;
  return i < half + pairs ? i - half + pairs : i;
}

template <bool kToBasis>
void permute(float* x, int head_dim, int n_rotary) {
  float old[1024];
  std::memcpy(old, x, static_cast<size_t>(head_dim) * sizeof *x);
  for (int i = 0; i < head_dim; ++i) {
    const int b = basis_dim(i, head_dim, n_rotary);
    if (kToBasis)
      x[b] = old[i];
    else
      x[i] = old[b];
  }
}

// [64, head_dim]
void rebuild_keys(const KvPage& page, const RotaryKeys& rotary, int head_dim, float* keys) {
  const int pairs = rotary.n_rotary / 2;
  const float *start_cos = page.start_angles, *start_sin = page.start_angles + pairs;
  const bool is_bf16 = page.values.code == KvCode::kBF16;
  for (int token = 0; token < kPageTokens; ++token) {
    float* key = keys + token * head_dim;
    const int64_t first = token * page.values.stride;
    if (is_bf16)
      for (int i = 0; i < head_dim; ++i)
        key[i] = bf16_to_float(static_cast<const uint16_t*>(page.values.data)[first + i]);
    else
      std::copy_n(static_cast<const float*>(page.values.data) + first, head_dim, key);
    for (int i = 0; i < pairs; ++i) {
      const float step_cos = rotary.cosines[i * kPageTokens + token];
      const float step_sin = rotary.sines[i * kPageTokens + token];
      const float cos = start_cos[i] * step_cos - start_sin[i] * step_sin;
      const float sin = start_sin[i] * step_cos + start_cos[i] * step_sin;
      const float a = rotary.weights[i] * key[i];
      const float b = rotary.weights[pairs + i] * key[pairs + i];
      key[i] = a * cos - b * sin;
      key[pairs + i] = b * cos + a * sin;
    }
  }
}

}  // namespace

void attend_with_rebuilt_keys(decltype(KernelTable::attend_page) attend_page, const KvPage& page,
                              const AttentionTile& tile, const AttentionState& state) noexcept {
  alignas(64) float keys[kPageTokens * 1024];
  rebuild_keys(page, *tile.rotary_keys, tile.head_dim, keys);
  const KvPage rebuilt{{KvCode::kF32, keys, tile.head_dim}, page.values};
  attend_page(rebuilt, tile, state);
}

void to_shared_basis(const KernelTable& kernels, float* x, int64_t n_vectors, int head_dim,
                     int n_rotary) noexcept {
  for (int64_t v = 0; v < n_vectors; ++v) permute<true>(x + v * head_dim, head_dim, n_rotary);
  kernels.kv_rotate(x + n_rotary, n_vectors, head_dim, head_dim - n_rotary);
}

void from_shared_basis(const KernelTable& kernels, float* x, int64_t n_vectors, int head_dim,
                       int n_rotary) noexcept {
  kernels.kv_unrotate(x + n_rotary, n_vectors, head_dim, head_dim - n_rotary);
  for (int64_t v = 0; v < n_vectors; ++v) permute<false>(x + v * head_dim, head_dim, n_rotary);
}

void query_to_shared_basis(const KernelTable& kernels, float* q, int64_t n_vectors, int head_dim,
                           int n_rotary, const float* w_k) noexcept {
  for (int64_t v = 0; v < n_vectors; ++v)
    for (int i = 0; i < head_dim; ++i)
      if (basis_dim(i, head_dim, n_rotary) >= n_rotary) q[v * head_dim + i] *= w_k[i];
  to_shared_basis(kernels, q, n_vectors, head_dim, n_rotary);
}

void rotary_weights(const float* w_k, int head_dim, int n_rotary, float* out) noexcept {
  for (int i = 0; i < n_rotary / 2; ++i) {
    out[i] = w_k[i];
    out[n_rotary / 2 + i] = w_k[head_dim / 2 + i];
  }
}

}  // namespace lapidary
