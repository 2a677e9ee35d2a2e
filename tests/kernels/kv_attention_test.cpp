// Attention on packed pages: equal to attention on what they decode to, the reference's bits in
// every integer part, and no row influenced by another. V-only pages against keys made outside.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/kv_pages.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

struct Sizes {
  KvCode keys, values;
  bool shared;  // V-only, in the code of `values`
  int head_dim, n_tokens, group;
};

constexpr int kFirstPosition = 640;  // of the page

// A packed page, the tile that reads it, and both as floats.
struct Case {
  Sizes sizes;
  int n_rotary;
  KvPageGeometry k, v;
  std::vector<uint8_t> k_page, v_page, packed_q, begin, end;
  std::vector<float> q, k_float, v_float;  // what the integers stand for
  std::vector<float> weights, cosines, sines, start;
  RotaryKeys rotary{};

  explicit Case(const Sizes& s, uint32_t seed = 1)
      : sizes(s),
        n_rotary(s.shared ? std::max(2, s.head_dim / 4 / 2 * 2) : 0),
        k(kv_page_geometry(KvRole::kKeys, s.keys, s.head_dim)),
        v(kv_page_geometry(s.shared ? KvRole::kBoth : KvRole::kValues, s.values, s.head_dim,
                           n_rotary)),
        begin(size_t(s.n_tokens), 0),
        end(size_t(s.n_tokens), kPageTokens),
        q(random_floats(size_t(n_rows() * s.head_dim), seed, 2 / std::sqrt(float(s.head_dim)))) {
    fill(k, k_page, k_float, seed + 1);
    fill(v, v_page, v_float, seed + 2);
    weights = random_floats(size_t(n_rotary), seed + 3);
    const int pairs = n_rotary / 2;
    for (int i = 0; i < pairs; ++i)
      for (int t = 0; t < kPageTokens; ++t) {
        cosines.push_back(float(std::cos(t * frequency(i))));
        sines.push_back(float(std::sin(t * frequency(i))));
      }
    for (int i = 0; i < pairs; ++i) start.push_back(float(std::cos(kFirstPosition * frequency(i))));
    for (int i = 0; i < pairs; ++i) start.push_back(float(std::sin(kFirstPosition * frequency(i))));
    rotary = {n_rotary, weights.data(), cosines.data(), sines.data()};
    if (s.shared) make_shared_keys();
  }
  int n_rows() const { return sizes.n_tokens * sizes.group; }
  static double frequency(int i) { return std::pow(10000.0, -i / 8.0); }
  const KvPageGeometry& key_geometry() const { return sizes.shared ? v : k; }

  static void fill(const KvPageGeometry& g, std::vector<uint8_t>& page, std::vector<float>& floats,
                   uint32_t seed) {
    std::vector<uint16_t> rows;
    for (const float x : random_floats(size_t(kPageTokens * g.head_dim), seed))
      rows.push_back(float_to_bf16(x));
    page.resize(size_t(g.bytes));
    floats.resize(rows.size());
    pack_kv_page(kernels_up_to("reference"), g, rows.data(), g.head_dim, page.data());
    decode_kv_page(g, page.data(), floats.data());
  }

  void make_shared_keys() {
    k_float = v_float;
    for (int t = 0; t < kPageTokens; ++t)
      for (int i = 0; i < n_rotary / 2; ++i) {
        float* key = &k_float[size_t(t * sizes.head_dim)];
        const double angle = (kFirstPosition + t) * frequency(i);
        const double a = weights[size_t(i)] * double{key[i]};
        const double b = weights[size_t(n_rotary / 2 + i)] * double{key[n_rotary / 2 + i]};
        key[i] = float(a * std::cos(angle) - b * std::sin(angle));
        key[n_rotary / 2 + i] = float(b * std::cos(angle) + a * std::sin(angle));
      }
  }

  AttentionTile tile() const {
    AttentionTile tile{q.data(),       int64_t{sizes.group} * sizes.head_dim,
                       sizes.n_tokens, sizes.group,
                       sizes.head_dim, begin.data(),
                       end.data()};
    tile.rotary_keys = sizes.shared ? &rotary : nullptr;
    return tile;
  }
  KvPage page() const {
    KvPage page{{sizes.keys, k_page.data(), 0, &k}, {sizes.values, v_page.data(), 0, &v}};
    if (sizes.shared) page.keys = {}, page.start_angles = start.data();
    return page;
  }

  // max [rows], sum [rows], out [rows, head_dim] after one page, from a given start.
  struct State {
    std::vector<float> max, sum, out;
    bool operator==(const State&) const = default;
  };
  State fresh() const {
    return {std::vector<float>(size_t(n_rows()), -INFINITY),
            std::vector<float>(size_t(n_rows()), 0.0f),
            std::vector<float>(size_t(n_rows() * sizes.head_dim), 0.0f)};
  }
  State attend(const KernelTable& table, const AttentionTile& plain, State state) const {
    AttentionTile tile = plain;
    std::vector<uint8_t> packed(
        size_t(plain.n_tokens * plain.group * packed_query_bytes(key_geometry())) + 64);
    void* at = packed.data();
    size_t space = packed.size();
    auto* aligned = static_cast<uint8_t*>(std::align(64, packed.size() - 64, at, space));
    pack_queries(table, key_geometry(), tile, aligned);
    tile.packed_q = aligned;
    table.attend_page(page(), tile, {state.max.data(), state.sum.data(), state.out.data()});
    return state;
  }
  State attend(const KernelTable& table) const { return attend(table, tile(), fresh()); }

  // Ranges of all kinds: all, none, one, a cut on either side.
  void cut_ranges() {
    for (size_t t = 0; t < begin.size(); ++t) {
      begin[t] = uint8_t(t % 5 == 1 ? 7 * t % 60 : 0);
      end[t] = uint8_t(t % 5 == 2 ? begin[t] : t % 5 == 3 ? 1 + 11 * t % 63 : kPageTokens);
    }
  }
};

std::vector<Sizes> all_sizes() {
  std::vector<Sizes> out;
  using enum KvCode;
  for (const auto& [keys, values] : std::vector<std::pair<KvCode, KvCode>>{{kInt8, kInt8},
                                                                           {kInt8, k4Bit},
                                                                           {k4Bit, k4Bit},
                                                                           {k4Bit, k3Bit},
                                                                           {k3Bit, k3Bit},
                                                                           {k5Bit, k5Bit}}) {
    out.push_back({keys, values, false, 512, 1, 8});
    out.push_back({keys, values, false, 64, 3, 2});
    out.push_back({keys, values, false, 80, 1, 3});
    out.push_back({keys, values, false, 96, 5, 5});
    out.push_back({keys, values, false, 200, 1, 1});
    out.push_back({keys, values, false, 128, 20, 4});
  }
  for (const KvCode code : {kInt8, k5Bit, k4Bit, k3Bit}) {
    out.push_back({code, code, true, 512, 1, 8});
    out.push_back({code, code, true, 128, 3, 4});
    out.push_back({code, code, true, 96, 2, 3});
    out.push_back({code, code, true, 64, 19, 1});
    out.push_back({code, code, true, 256, 11, 2});
  }
  return out;
}

std::string name(const Sizes& s) {
  return (s.shared ? "v" : "k" + std::to_string(kv_bits(s.keys)) + "v") +
         std::to_string(kv_bits(s.values)) + " head " + std::to_string(s.head_dim) + " tokens " +
         std::to_string(s.n_tokens) + " group " + std::to_string(s.group);
}

class PackedAttention : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }
};

// The softmax in double over the decoded page and the query that the int8 planes stand for.
TEST_P(PackedAttention, IsAttentionOnTheDecodedPage) {
  for (const Sizes& sizes : all_sizes()) {
    SCOPED_TRACE(name(sizes));
    Case c(sizes);
    c.cut_ranges();
    const Case::State state = c.attend(table());
    const KvPageGeometry& g = c.key_geometry();
    std::vector<uint8_t> packed(size_t(c.n_rows() * packed_query_bytes(g)));
    pack_queries(table(), g, c.tile(), packed.data());
    const int d = sizes.head_dim;
    for (int row = 0; row < c.n_rows(); ++row) {
      const PackedQuery pq = packed_query(g, packed.data(), row);
      std::vector<double> q(c.q.begin() + row * d, c.q.begin() + (row + 1) * d);
      for (int b = 0; b < g.n_blocks; ++b)
        for (int i = 0; i < g.blocks[b].n_dims; ++i) {
          const int dim = g.blocks[b].first_dim + i, at = g.blocks[b].first_padded + i;
          if (dim < g.n_rotary) continue;
          const bool two = g.blocks[b].code == KvCode::kInt8;
          q[size_t(dim)] = double{pq.scale} * (pq.high[at] + (two ? pq.low[at] / 254.0 : 0.0));
        }
      const int begin = c.begin[size_t(row / sizes.group)], end = c.end[size_t(row / sizes.group)];
      std::vector<double> p(kPageTokens, 0.0);
      double max = -INFINITY, magnitude = 0, sum = 0;
      for (int t = begin; t < end; ++t) {
        double size = 0;
        for (int i = 0; i < d; ++i) {
          const double product = q[size_t(i)] * c.k_float[size_t(t * d + i)];
          p[size_t(t)] += product;
          size += std::fabs(product);
        }
        max = std::max(max, p[size_t(t)]);
        magnitude = std::max(magnitude, size);
      }
      if (begin >= end) {
        EXPECT_EQ(state.max[size_t(row)], -INFINITY);
        continue;
      }
      for (int t = begin; t < end; ++t) sum += p[size_t(t)] = std::exp(p[size_t(t)] - max);
      // Integer sums are exact; a score is rounded once per block, by its scale and step, and along
      // the chain of rotary pairs. Angles are rounded to 2^-24 where they are taken apart.
      const double score_error = (c.n_rotary + 12) * 0x1p-24 * magnitude + 1e-7;
      ASSERT_NEAR(state.max[size_t(row)], max, score_error) << "row " << row;
      ASSERT_NEAR(state.sum[size_t(row)], sum, sum * (2 * score_error + 1e-6));
      for (int i = 0; i < d; ++i) {
        double value = 0, size = 0, largest_weight = 0, largest = 0;
        for (int t = begin; t < end; ++t) {
          const double part = p[size_t(t)] * c.v_float[size_t(t * d + i)];
          value += part;
          size += std::fabs(part);
          largest = std::max(largest, std::fabs(double{c.v_float[size_t(t * d + i)]}));
          largest_weight = std::max(largest_weight, p[size_t(t)]);
        }
        // Weights stand on a grid of largest / 32640, or, where running sums are rounded, are off
        // by less than largest / 255 each. Scales within a page differ by less than half, which can
        // make a weight's step as much larger.
        const bool fine = sizes.values == KvCode::kInt8 || i < c.n_rotary;
        const double grid = 2.0 * largest_weight / (fine ? 2 * 32640 : 255);
        const double bound = (2 * score_error + 2e-6) * size + 64 * grid * largest;
        ASSERT_NEAR(state.out[size_t(row * d + i)], value, bound) << "row " << row << " dim " << i;
      }
    }
  }
}

// One visible token: the maximum is the score and the weight is 1, so every bit is the integers'.
TEST_P(PackedAttention, ScoresAndValuesAreTheReferencesBits) {
  for (const Sizes& sizes : all_sizes()) {
    SCOPED_TRACE(name(sizes));
    Case c(sizes);
    for (int t = 0; t < kPageTokens; t += 3) {
      for (int token = 0; token < sizes.n_tokens; ++token) {
        c.begin[size_t(token)] = uint8_t((t + token) % kPageTokens);
        c.end[size_t(token)] = uint8_t(c.begin[size_t(token)] + 1);
      }
      ASSERT_EQ(c.attend(table()), c.attend(kernels_up_to("reference"))) << "token " << t;
    }
  }
}

// Keys of scale 0 give each token the weight 1; the values' scales then make the weights uneven.
TEST_P(PackedAttention, WeightedSumsAreTheReferencesBits) {
  for (const Sizes& sizes : all_sizes()) {
    SCOPED_TRACE(name(sizes));
    if (sizes.shared) continue;
    Case c(sizes);
    c.cut_ranges();
    std::fill(c.k_page.begin() + c.k.scales_offset, c.k_page.end(), uint8_t{0});
    ASSERT_EQ(c.attend(table()), c.attend(kernels_up_to("reference")));
  }
}

TEST_P(PackedAttention, RowsDoNotSeeEachOther) {
  for (const Sizes& sizes : all_sizes()) {
    SCOPED_TRACE(name(sizes));
    Case c(sizes);
    c.cut_ranges();
    const Case::State once = c.attend(table());
    const Case::State twice = c.attend(table(), c.tile(), once);
    const int d = sizes.head_dim;
    for (int row = 0; row < c.n_rows(); row += 3) {
      const int token = row / sizes.group;
      AttentionTile one = c.tile();
      one.q += row * d;
      one.n_tokens = one.group = 1;
      one.begin += token;
      one.end += token;
      Case::State state{{-INFINITY}, {0.0f}, std::vector<float>(size_t(d), 0.0f)};
      for (int pass = 0; pass < 2; ++pass) state = c.attend(table(), one, state);
      ASSERT_EQ(state.max[0], twice.max[size_t(row)]) << row;
      ASSERT_EQ(state.sum[0], twice.sum[size_t(row)]) << row;
      for (int i = 0; i < d; ++i) ASSERT_EQ(state.out[size_t(i)], twice.out[size_t(row * d + i)]);
    }
  }
}

// A V-only layer's whole way beside the separate one: V in bf16 in the basis, keys rebuilt, against
// attention in double on K = RoPE(w * V) and V in the model's own order.
TEST_P(PackedAttention, SharedBasisIsTheSeparateAttention) {
  for (const int d : {64, 96, 128, 512}) {
    Case c({KvCode::kInt8, KvCode::kInt8, true, d, 1, 4});
    const int pairs = c.n_rotary / 2, half = d / 2;
    const std::vector<float> w = random_floats(size_t(d), 21),
                             v = random_floats(size_t(64 * d), 22);
    std::vector<float> q = random_floats(size_t(4 * d), 23, 1 / std::sqrt(float(d)));
    std::vector<double> k(v.begin(), v.end());
    for (int t = 0; t < kPageTokens; ++t)
      for (int i = 0; i < half; ++i) {
        double &a = k[size_t(t * d + i)], &b = k[size_t(t * d + half + i)];
        a *= w[size_t(i)], b *= w[size_t(half + i)];
        const double angle = i < pairs ? (kFirstPosition + t) * Case::frequency(i) : 0;
        const double rotated = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle), a = rotated;
      }
    std::vector<double> expected(q.size());
    for (int row = 0; row < 4; ++row) {
      std::vector<double> p(kPageTokens);
      double sum = 0;
      for (int t = 0; t < kPageTokens; ++t) {
        for (int i = 0; i < d; ++i) p[size_t(t)] += q[size_t(row * d + i)] * k[size_t(t * d + i)];
        sum += p[size_t(t)] = std::exp(p[size_t(t)]);
      }
      for (int i = 0; i < d; ++i)
        for (int t = 0; t < kPageTokens; ++t)
          expected[size_t(row * d + i)] += p[size_t(t)] / sum * v[size_t(t * d + i)];
    }

    std::vector<float> basis = v;
    to_shared_basis(table(), basis.data(), kPageTokens, d, c.n_rotary);
    std::vector<uint16_t> rows;
    for (const float x : basis) rows.push_back(float_to_bf16(x));
    rotary_weights(w.data(), d, c.n_rotary, c.weights.data());
    query_to_shared_basis(table(), q.data(), 4, d, c.n_rotary, w.data());
    c.q = q;
    pack_kv_page(table(), c.v, rows.data(), d, c.v_page.data());
    const KvPage floats{{}, {KvCode::kBF16, rows.data(), d}, c.start.data()};
    Case::State exact = c.fresh(), packed = c.attend(table());
    table().attend_page(floats, c.tile(), {exact.max.data(), exact.sum.data(), exact.out.data()});
    for (auto [state, bound] : {std::pair{&exact, 0.02}, std::pair{&packed, 0.04}}) {
      std::vector<float> out(q.size());
      table().finish_attention({state->max.data(), state->sum.data(), state->out.data()}, c.tile(),
                               out.data());
      from_shared_basis(table(), out.data(), 4, d, c.n_rotary);
      // bf16 errs by 2^-9 of a value, int8 by about 3 / 254: the scores (deviation about 1) by as
      // much, the mean of 64 values of size 1 by far less than one of them.
      for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], bound) << d;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllTables, PackedAttention, testing::ValuesIn(available_kernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace lapidary
