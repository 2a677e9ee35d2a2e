// Attention by pages, scalar: what kernels.h says, with every sum in double and rounded to the
// state's float32 once per page.
#include <algorithm>
#include <cmath>

#include "formats/dtype.h"
#include "formats/error.h"
#include "kernels/kv_attention.h"
#include "kernels/reference.h"

namespace lapidary::reference {
namespace {

double cached(const KvSide& side, int token, int i) {
  const int64_t at = token * side.stride + i;
  LAPIDARY_CHECK(!is_packed(side.code));
  return side.code == KvCode::kBF16 ? bf16_to_float(static_cast<const uint16_t*>(side.data)[at])
                                    : static_cast<const float*>(side.data)[at];
}

void attend_row(const KvPage& page, const float* q, int head_dim, int begin, int end, float& max,
                float& sum, float* out) {
  double scores[kPageTokens];
  float largest = max;
  for (int j = begin; j < end; ++j) {
    scores[j] = 0;
    for (int i = 0; i < head_dim; ++i) scores[j] += q[i] * cached(page.keys, j, i);
    largest = std::max(largest, static_cast<float>(scores[j]));
  }
  const double kept = std::exp(double{max} - largest);  // 0 at first
  double new_sum = sum * kept;
  for (int j = begin; j < end; ++j) new_sum += scores[j] = std::exp(scores[j] - largest);
  for (int i = 0; i < head_dim; ++i) {
    double value = out[i] * kept;
    for (int j = begin; j < end; ++j) value += scores[j] * cached(page.values, j, i);
    out[i] = static_cast<float>(value);
  }
  max = largest;
  sum = static_cast<float>(new_sum);
}

}  // namespace

void attend_page(const KvPage& page, const AttentionTile& tile,
                 const AttentionState& state) noexcept {
  if (page.values.geometry) return attend_packed_page(page, tile, state);
  if (page.start_angles) return attend_with_rebuilt_keys(attend_page, page, tile, state);
  for (int token = 0; token < tile.n_tokens; ++token) {
    if (tile.begin[token] >= tile.end[token]) continue;
    for (int head = 0; head < tile.group; ++head) {
      const int64_t row = int64_t{token} * tile.group + head;
      attend_row(page, tile.q + token * tile.q_stride + int64_t{head} * tile.head_dim,
                 tile.head_dim, tile.begin[token], tile.end[token], state.max[row], state.sum[row],
                 state.out + row * tile.head_dim);
    }
  }
}

void merge_attention(const AttentionState& part, int64_t n_rows, int head_dim,
                     const AttentionState& total) noexcept {
  for (int64_t row = 0; row < n_rows; ++row) {
    if (part.max[row] == -INFINITY) continue;
    const float max = std::max(total.max[row], part.max[row]);
    const double earlier = std::exp(double{total.max[row]} - max);
    const double later = std::exp(double{part.max[row]} - max);
    for (int64_t i = row * head_dim; i < (row + 1) * head_dim; ++i)
      total.out[i] = static_cast<float>(total.out[i] * earlier + part.out[i] * later);
    total.sum[row] = static_cast<float>(total.sum[row] * earlier + part.sum[row] * later);
    total.max[row] = max;
  }
}

void finish_attention(const AttentionState& state, const AttentionTile& tile, float* out) noexcept {
  for (int64_t row = 0; row < int64_t{tile.n_tokens} * tile.group; ++row) {
    float* result = out + row / tile.group * tile.q_stride + row % tile.group * tile.head_dim;
    for (int i = 0; i < tile.head_dim; ++i)
      result[i] = state.out[row * tile.head_dim + i] / state.sum[row];
  }
}

}  // namespace lapidary::reference
