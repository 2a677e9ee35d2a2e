// Attention by pages for vectors of 8 and 16 lanes (V as in lanes_matmul_float.h).
//
// Blocks of up to V::kRowsAtOnce query rows meet one page: their scores, as dot products in
// V::kLanes lanes folded by one tree; the running maximum and sum; then the values, each output
// element one chain over ascending keys. The blocks are there so that a key or value read (and
// converted from 16 bits) once serves several rows; a row's own sums have the same shape in a block
// of any size. Keys that a row does not see are not added to it with weight zero but left out.
#pragma once

#include "kernels/kernels.h"
#include "kernels/lanes_attention_state.h"

namespace lapidary::lanes {

namespace {  // each file its own: nothing may be shared between instruction sets

struct QueryRow {
  const float* q;
  float *max, *sum, *out;
  int begin, end;  // keys it sees
};

// One per row of a block; scores become weights.
struct alignas(64) RowScores {
  float key[kPageTokens];
};

// What is fetched into L2 meanwhile.
struct Ahead {
  const char* next;
  template <int Bytes>
  void fetch() {
#pragma GCC unroll 8
    for (int i = 0; i < Bytes; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
    next += Bytes;
  }
};

}  // namespace

// As many sums at once as hide a multiplication's latency.
template <class V>
static constexpr int chains_per_row(int n_rows) {
  const int chains = 2 * V::kRowsAtOnce / n_rows;
  return chains < 8 ? chains : 8;
}

// scores[r].key[j] = q_r . k_j for at least the keys [first, last).
template <class V, int Rows, class T>
static void compute_scores(const QueryRow* rows, const KvSide& keys, int head_dim, int first,
                           int last, Ahead ahead, RowScores* scores) {
  constexpr int kKeys = chains_per_row<V>(Rows);
  const int whole = head_dim / V::kLanes * V::kLanes, rest = head_dim - whole;
  for (int j = first / kKeys * kKeys; j < last; j += kKeys) {
    const T* key = static_cast<const T*>(keys.data) + j * keys.stride;
    typename V::Floats sum[Rows][kKeys] = {};
    for (int i = 0; i < whole; i += V::kLanes) {
      ahead.fetch<int{sizeof(T)} * V::kLanes * kKeys>();
      typename V::Floats k[kKeys];
#pragma GCC unroll 8
      for (int c = 0; c < kKeys; ++c) k[c] = V::load(key + c * keys.stride + i);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        auto q = V::load(rows[r].q + i);
        V::keep(q);
#pragma GCC unroll 8
        for (int c = 0; c < kKeys; ++c) sum[r][c] = V::multiply_add(q, k[c], sum[r][c]);
      }
    }
    if (rest > 0)
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const auto q = V::load_partial(rows[r].q + whole, rest);
#pragma GCC unroll 8
        for (int c = 0; c < kKeys; ++c)
          sum[r][c] =
              V::multiply_add(q, V::load_partial(key + c * keys.stride + whole, rest), sum[r][c]);
      }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; r += kKeys == 2 ? 2 : 1)
      if constexpr (kKeys == 2) {
        const __m128 folded = V::fold4(sum[r][0], sum[r][1], sum[r + 1][0], sum[r + 1][1]);
        _mm_storel_pi(reinterpret_cast<__m64*>(scores[r].key + j), folded);
        _mm_storeh_pi(reinterpret_cast<__m64*>(scores[r + 1].key + j), folded);
      } else {
#pragma GCC unroll 2
        for (int c = 0; c < kKeys; c += 4)
          _mm_storeu_ps(scores[r].key + j + c,
                        V::fold4(sum[r][c], sum[r][c + 1], sum[r][c + 2], sum[r][c + 3]));
      }
  }
}

template <class V>
static void scale(float* x, int n, float factor) {
  int i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes)
    V::store(x + i, V::multiply(V::load(x + i), V::set(factor)));
  if (i < n)
    V::store_partial(x + i, n - i, V::multiply(V::load_partial(x + i, n - i), V::set(factor)));
}

// Takes the page's scores into the row's maximum and sum, and turns them into weights.
template <class V>
static void take_scores(const QueryRow& row, int head_dim, RowScores& scores) {
  for (int j = 0; j < row.begin; ++j) scores.key[j] = -__builtin_inff();
  for (int j = row.end; j < kPageTokens; ++j) scores.key[j] = -__builtin_inff();
  auto largest = V::set(*row.max);
  for (int j = 0; j < kPageTokens; j += V::kLanes)
    largest = V::max(largest, V::load(scores.key + j));
  const float max = V::fold_max(largest);
  const auto shift = V::set(max);
  for (int j = 0; j < kPageTokens; j += V::kLanes)
    V::store(scores.key + j, V::exp(V::subtract(V::load(scores.key + j), shift)));
  for (int j = 0; j < row.begin; ++j) scores.key[j] = 0;
  for (int j = row.end; j < kPageTokens; ++j) scores.key[j] = 0;
  auto sum = V::set(0.0f);
  for (int j = 0; j < kPageTokens; j += V::kLanes) sum = V::add(sum, V::load(scores.key + j));
  if (max == *row.max) {
    *row.sum += V::fold(sum);
    return;
  }
  const float kept = exp_of<V>(*row.max - max);
  *row.sum = *row.sum * kept + V::fold(sum);
  *row.max = max;
  scale<V>(row.out, head_dim, kept);
}

// out[0 .. Vectors * V::kLanes) += weights of keys [first, last) times their values.
template <class V, int Rows, int Vectors, class T>
static void add_values(const QueryRow* rows, const T* values, int64_t stride, int offset, int first,
                       int last, Ahead& ahead, const RowScores* weights) {
  typename V::Floats sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) sum[r][i] = V::load(rows[r].out + offset + V::kLanes * i);
  for (int j = first; j < last; ++j) {
    ahead.fetch<int{sizeof(T)} * V::kLanes * Vectors>();
    typename V::Floats v[Vectors];
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) v[i] = V::load(values + j * stride + offset + V::kLanes * i);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const auto weight = V::set(weights[r].key[j]);
#pragma GCC unroll 8
      for (int i = 0; i < Vectors; ++i) sum[r][i] = V::multiply_add(weight, v[i], sum[r][i]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) V::store(rows[r].out + offset + V::kLanes * i, sum[r][i]);
}

template <class V, int Rows, class T>
static void add_values_tail(const QueryRow* rows, const T* values, int64_t stride, int offset,
                            int n, int first, int last, const RowScores* weights) {
  for (int r = 0; r < Rows; ++r) {
    auto sum = V::load_partial(rows[r].out + offset, n);
    for (int j = first; j < last; ++j)
      sum = V::multiply_add(V::set(weights[r].key[j]),
                            V::load_partial(values + j * stride + offset, n), sum);
    V::store_partial(rows[r].out + offset, n, sum);
  }
}

template <class V, int Rows, class T>
static void add_all_values(const QueryRow* rows, const KvSide& side, int head_dim, int first,
                           int last, Ahead ahead, const RowScores* weights) {
  constexpr int kVectors = chains_per_row<V>(Rows);
  if (first >= last) return;
  const T* values = static_cast<const T*>(side.data);
  int i = 0;
  for (; i + kVectors * V::kLanes <= head_dim; i += kVectors * V::kLanes)
    add_values<V, Rows, kVectors>(rows, values, side.stride, i, first, last, ahead, weights);
  for (; i + V::kLanes <= head_dim; i += V::kLanes)
    add_values<V, Rows, 1>(rows, values, side.stride, i, first, last, ahead, weights);
  if (i < head_dim)
    add_values_tail<V, Rows>(rows, values, side.stride, i, head_dim - i, first, last, weights);
}

// `fetch`: these are the first rows to meet the page.
template <class V, int Rows>
static void attend_rows(const QueryRow* rows, const KvPage& page, int head_dim, bool fetch) {
  int first = kPageTokens, last = 0;                // keys that some row sees
  int first_shared = 0, last_shared = kPageTokens;  // keys that all of them see
  for (int r = 0; r < Rows; ++r) {
    first = rows[r].begin < first ? rows[r].begin : first;
    last = rows[r].end > last ? rows[r].end : last;
    first_shared = rows[r].begin > first_shared ? rows[r].begin : first_shared;
    last_shared = rows[r].end < last_shared ? rows[r].end : last_shared;
  }
  if (first_shared > last_shared) first_shared = last_shared = last;  // each row by itself

  // Otherwise what is there already is fetched once more, which costs next to nothing.
  const bool fetch_values = fetch && page.values.stride == head_dim;
  const bool fetch_keys = fetch && page.next_keys && page.keys.stride == head_dim;
  const Ahead values{static_cast<const char*>(fetch_values ? page.values.data : page.keys.data)};
  const Ahead next_keys{static_cast<const char*>(fetch_keys ? page.next_keys : page.values.data)};

  RowScores weights[Rows];
  if (page.keys.code == KvCode::kBF16)
    compute_scores<V, Rows, typename V::Brain>(rows, page.keys, head_dim, first, last, values,
                                               weights);
  else
    compute_scores<V, Rows, float>(rows, page.keys, head_dim, first, last, values, weights);
  for (int r = 0; r < Rows; ++r) take_scores<V>(rows[r], head_dim, weights[r]);

  const auto add = [&]<class T>(T) {
    const auto add_own = [&](int from, int to) {
      for (int r = 0; r < Rows; ++r)
        add_all_values<V, 1, T>(rows + r, page.values, head_dim,
                                rows[r].begin > from ? rows[r].begin : from,
                                rows[r].end < to ? rows[r].end : to, values, weights + r);
    };
    if (first < first_shared) add_own(first, first_shared);
    add_all_values<V, Rows, T>(rows, page.values, head_dim, first_shared, last_shared, next_keys,
                               weights);
    if (last_shared < last) add_own(last_shared, last);
  };
  if (page.values.code == KvCode::kBF16)
    add(typename V::Brain{});
  else
    add(float{});
}

// kernels.h, attend_page.
template <class V>
static void attend_page(const KvPage& page, const AttentionTile& tile,
                        const AttentionState& state) {
  QueryRow rows[V::kRowsAtOnce];
  int n = 0;
  bool is_first = true;
  for (int token = 0; token < tile.n_tokens; ++token) {
    if (tile.begin[token] >= tile.end[token]) continue;
    for (int head = 0; head < tile.group; ++head) {
      const int64_t row = int64_t{token} * tile.group + head;
      rows[n++] = {tile.q + token * tile.q_stride + int64_t{head} * tile.head_dim,
                   state.max + row,
                   state.sum + row,
                   state.out + row * tile.head_dim,
                   tile.begin[token],
                   tile.end[token]};
      if (n < V::kRowsAtOnce) continue;
      attend_rows<V, V::kRowsAtOnce>(rows, page, tile.head_dim, is_first);
      is_first = false;
      n = 0;
    }
  }
  const QueryRow* rest = rows;
  const auto attend = [&]<int Rows>() {
    attend_rows<V, Rows>(rest, page, tile.head_dim, is_first);
    is_first = false;
    rest += Rows;
  };
  if constexpr (V::kRowsAtOnce > 4)
    if (n & 4) attend.template operator()<4>();
  if (n & 2) attend.template operator()<2>();
  if (n & 1) attend.template operator()<1>();
}

}  // namespace lapidary::lanes
