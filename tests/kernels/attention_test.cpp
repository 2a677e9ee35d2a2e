// Attention against a double-precision softmax, and its independence of everything but the keys.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "formats/dtype.h"
#include "kernels/kernels.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

// Keys and values of absolute positions 0 .. n_positions - 1, and rings made from them.
struct Case {
  int n_heads, n_kv_heads, head_dim;
  int64_t n_positions;
  bool bf16 = false;
  std::vector<float> q, keys, values;

  Case(int n_heads, int n_kv_heads, int head_dim, int64_t n_positions, bool bf16, float spread = 1)
      : n_heads(n_heads),
        n_kv_heads(n_kv_heads),
        head_dim(head_dim),
        n_positions(n_positions),
        bf16(bf16),
        q(random_floats(size_t(n_heads * head_dim), 1, spread)),
        keys(random_floats(size_t(n_positions * row()), 2)),
        values(random_floats(size_t(n_positions * row()), 3)) {
    if (!bf16) return;
    for (std::vector<float>* cache : {&keys, &values})
      for (float& value : *cache) value = bf16_to_float(float_to_bf16(value));
  }
  int64_t row() const { return int64_t{n_kv_heads} * head_dim; }

  // Runs with a ring of `capacity` that holds the last positions up to first_key + n_keys - 1.
  std::vector<float> run(const KernelTable& table, int64_t first_key, int64_t n_keys,
                         int64_t capacity, int first_head = 0, int n_heads_here = 0) const {
    std::vector<float> ring[2];
    std::vector<uint16_t> packed[2];
    for (int c = 0; c < 2; ++c) {
      const std::vector<float>& source = c ? values : keys;
      ring[c].assign(size_t(capacity * row()), 1e9f);  // slots that must not be read
      for (int64_t p = first_key; p < first_key + n_keys; ++p)
        std::copy_n(source.begin() + p * row(), row(), ring[c].begin() + p % capacity * row());
      for (const float value : ring[c]) packed[c].push_back(float_to_bf16(value));
    }
    std::vector<float> out(q.size(), -1.0f), scores(size_t(n_keys) + 1, 777.0f);
    const AttentionQuery a{
        .q = q.data(),
        .out = out.data(),
        .keys = bf16 ? static_cast<const void*>(packed[0].data()) : ring[0].data(),
        .values = bf16 ? static_cast<const void*>(packed[1].data()) : ring[1].data(),
        .scores = scores.data(),
        .first_key = first_key,
        .n_keys = n_keys,
        .capacity = capacity,
        .n_heads = n_heads,
        .n_kv_heads = n_kv_heads,
        .head_dim = head_dim,
        .cache_is_bf16 = bf16};
    table.attention(a, first_head, n_heads_here ? n_heads_here : n_heads);
    EXPECT_EQ(scores.back(), 777.0f) << "wrote beyond n_keys scores";
    return out;
  }
};

class Attention : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }
};

void expect_softmax(const Case& c, int64_t first_key, int64_t n_keys,
                    const std::vector<float>& out) {
  for (int head = 0; head < c.n_heads; ++head) {
    const int kv_head = head / (c.n_heads / c.n_kv_heads);
    std::vector<double> scores;
    double largest = -INFINITY, score_magnitude = 0;
    for (int64_t p = first_key; p < first_key + n_keys; ++p) {
      double score = 0, magnitude = 0;
      for (int i = 0; i < c.head_dim; ++i) {
        const double product = double{c.q[size_t(head * c.head_dim + i)]} *
                               c.keys[size_t(p * c.row() + kv_head * c.head_dim + i)];
        score += product;
        magnitude += std::fabs(product);
      }
      scores.push_back(score);
      largest = std::fmax(largest, score);
      score_magnitude = std::fmax(score_magnitude, magnitude);
    }
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - largest);
    for (int i = 0; i < c.head_dim; ++i) {
      double expected = 0, magnitude = 0;
      for (size_t key = 0; key < scores.size(); ++key) {
        const double part =
            scores[key] / sum *
            c.values[size_t((first_key + int64_t(key)) * c.row() + kv_head * c.head_dim + i)];
        expected += part;
        magnitude += std::fabs(part);
      }
      // A score errs by up to (head_dim / 8 + 4) roundings of its magnitude, which a softmax turns
      // into twice that relative error of a weight; then one rounding per key at worst, and a few.
      const double relative = 2 * (c.head_dim / 8 + 6) * score_magnitude + double(n_keys) + 16;
      ASSERT_NEAR(out[size_t(head * c.head_dim + i)], expected, relative * 0x1p-24 * magnitude)
          << "head " << head << " element " << i << " of " << n_keys << " keys";
    }
  }
}

TEST_P(Attention, IsTheSoftmaxOfTheVisibleKeys) {
  for (const bool bf16 : {false, true})
    for (const int head_dim : {2, 16, 20, 64, 128, 200, 256})
      for (const int64_t n_keys : {1, 2, 3, 4, 5, 7, 8, 9, 64, 131}) {
        const Case c(4, 2, head_dim, n_keys + 10, bf16, 0.3f);
        expect_softmax(c, 3, n_keys, c.run(table(), 3, n_keys, n_keys + 10));
      }
}

TEST_P(Attention, SharesKvHeadsAmongQueryHeads) {
  for (const int n_kv_heads : {1, 2, 3, 6}) {
    const Case c(6, n_kv_heads, 24, 20, false);
    expect_softmax(c, 0, 20, c.run(table(), 0, 20, 20));
  }
}

TEST_P(Attention, DoesNotDependOnTheRing) {
  for (const bool bf16 : {false, true}) {
    const Case c(2, 1, 64, 300, bf16);
    const std::vector<float> straight = c.run(table(), 123, 50, 300);
    for (const int64_t capacity : {50, 51, 64, 100, 150})
      EXPECT_EQ(c.run(table(), 123, 50, capacity), straight) << "capacity " << capacity;
  }
}

TEST_P(Attention, HeadsMayBeComputedInAnyCut) {
  const Case c(6, 2, 32, 40, true);
  const std::vector<float> whole = c.run(table(), 0, 40, 40);
  for (int head = 0; head < 6; ++head) {
    const std::vector<float> one = c.run(table(), 0, 40, 40, head, 1);
    for (size_t i = 0; i < whole.size(); ++i)
      EXPECT_EQ(one[i], int(i) / 32 == head ? whole[i] : -1.0f);
  }
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  const Case c(2, 1, 64, 33, false, 1e4f);  // scores of about 1e5
  const std::vector<float> out = c.run(table(), 0, 33, 33);
  for (const float value : out) EXPECT_TRUE(std::isfinite(value));
}

// Two keys with scores 0 and -s and values 0 and 1 show e^-s / (1 + e^-s) itself.
TEST_P(Attention, ExponentialsAreAccurateFarBelowTheLargestScore) {
  for (float s = 0; s < 80; s += 0.37f) {
    Case c(1, 1, 2, 2, false);
    c.q = {1, 0};
    c.keys = {0, 0, -s, 0};
    c.values = {0, 0, 1, 1};
    const double expected = std::exp(-double{s}) / (1 + std::exp(-double{s}));
    // 2e-7 for the exponential, three roundings for the quotient and sum.
    EXPECT_NEAR(c.run(table(), 0, 2, 2)[0], expected, (2e-7 + 3 * 0x1p-24) * expected) << s;
  }
}

TEST_P(Attention, EqualKeysAreAveraged) {
  Case c(1, 1, 8, 1000, false);
  std::fill(c.keys.begin(), c.keys.end(), 0.5f);
  std::fill(c.values.begin(), c.values.end(), 3.0f);
  for (const float value : c.run(table(), 0, 1000, 1000)) EXPECT_FLOAT_EQ(value, 3.0f);
}

INSTANTIATE_TEST_SUITE_P(AllTables, Attention, testing::ValuesIn(available_kernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace lapidary
