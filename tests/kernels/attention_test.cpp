// Attention by pages against a double-precision softmax, and each row's independence of everything
// but the keys it sees.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/kernels.h"
#include "tests/kernels/attention_case.h"

namespace lapidary {
namespace {

class Attention : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }

  // Takes pages [first, end) into the state of all rows.
  void attend(const Case& c, int64_t first, int64_t end, State& state) const {
    const Side keys(c.key_code, c.stride, c.keys, c.head_dim);
    const Side values(c.value_code, c.stride, c.values, c.head_dim);
    std::vector<uint8_t> begins(c.tokens.size()), ends(c.tokens.size());
    for (int64_t page = first; page < end; ++page) {
      const auto in_page = [&](int64_t position) {
        return uint8_t(std::clamp<int64_t>(position - page * kPageTokens, 0, kPageTokens));
      };
      for (size_t t = 0; t < c.tokens.size(); ++t) {
        begins[t] = in_page(c.tokens[t].begin);
        ends[t] = in_page(c.tokens[t].end);
      }
      const AttentionTile tile{c.q.data(),           int64_t{c.group} * c.head_dim,
                               int(c.tokens.size()), c.group,
                               c.head_dim,           begins.data(),
                               ends.data()};
      table().attend_page({keys.page(page), values.page(page)}, tile, state.view());
    }
  }
  State attend(const Case& c) const {
    State state(c.n_rows(), c.head_dim);
    attend(c, 0, c.n_pages(), state);
    return state;
  }
  std::vector<float> finish(const Case& c, State state) const {
    std::vector<float> out(c.q.size(), -1.0f);
    const AttentionTile tile{
        nullptr, int64_t{c.group} * c.head_dim, int(c.tokens.size()), c.group, c.head_dim, nullptr,
        nullptr};
    table().finish_attention(state.view(), tile, out.data());
    return out;
  }
  std::vector<float> run(const Case& c) const { return finish(c, attend(c)); }
};

void expect_softmax(const Case& c, const std::vector<float>& out) {
  for (int64_t row = 0; row < c.n_rows(); ++row) {
    const Span visible = c.tokens[size_t(row / c.group)];
    std::vector<double> scores;
    double largest = -INFINITY, score_magnitude = 0;
    for (int64_t p = visible.begin; p < visible.end; ++p) {
      double score = 0, magnitude = 0;
      for (int i = 0; i < c.head_dim; ++i) {
        const double product =
            double{c.q[size_t(row * c.head_dim + i)]} * c.keys[size_t(p * c.head_dim + i)];
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
            scores[key] / sum * c.values[size_t((visible.begin + int64_t(key)) * c.head_dim + i)];
        expected += part;
        magnitude += std::fabs(part);
      }
      // A score errs by up to (head_dim / 8 + 4) roundings of its magnitude, and one more when the
      // maximum is taken off; a softmax turns that into twice that relative error of a weight. Then
      // one rounding per key at worst, six per page (an exponential's 4 and two products), a few.
      const double roundings = 2 * (c.head_dim / 8 + 6) * score_magnitude + double(scores.size()) +
                               6.0 * double(c.n_pages()) + 16;
      ASSERT_NEAR(out[size_t(row * c.head_dim + i)], expected, roundings * 0x1p-24 * magnitude)
          << "row " << row << " element " << i << " of " << scores.size() << " keys, head_dim "
          << c.head_dim << ", group " << c.group;
    }
  }
}

constexpr KvCode kF32 = KvCode::kF32, kBF16 = KvCode::kBF16;

TEST_P(Attention, IsTheSoftmaxOfTheVisibleKeys) {
  for (const auto& [keys, values] : {std::pair{kF32, kF32}, {kBF16, kBF16}, {kF32, kBF16}})
    for (const int head_dim : {2, 6, 16, 20, 64, 80, 96, 128, 200, 256, 512})
      for (const Span visible : {Span{0, 1},
                                 {0, 64},
                                 {0, 65},
                                 {3, 5},
                                 {63, 64},
                                 {63, 66},
                                 {64, 128},
                                 {70, 75},
                                 {17, 211}}) {
        const Case c(2, head_dim, {visible}, keys, values);
        expect_softmax(c, run(c));
      }
}

TEST_P(Attention, ServesAnyNumberOfHeadsAndTokens) {
  for (const int group : {1, 2, 3, 4, 5, 7, 8, 16})
    for (const int n_tokens : {1, 2, 3, 4, 7, 9}) {
      std::vector<Span> causal, window;
      for (int t = 0; t < n_tokens; ++t) {
        causal.push_back({0, 60 + t});
        window.push_back({58 + t, 125 + t});
      }
      for (const std::vector<Span>& tokens : {causal, window}) {
        const Case c(group, 24, tokens, kBF16, kBF16);
        expect_softmax(c, run(c));
      }
    }
}

// What one row gives alone it gives in every tile.
TEST_P(Attention, RowsDoNotDependOnTheirCompany) {
  for (const int head_dim : {20, 64, 96})
    for (const KvCode code : {kF32, kBF16}) {
      const std::vector<Span> tokens{{0, 130}, {0, 131}, {64, 132},  {5, 5},   {90, 133},
                                     {3, 20},  {0, 192}, {130, 131}, {63, 65}, {1, 128}};
      const Case together(3, head_dim, tokens, code, code);
      const State all = attend(together);
      for (size_t t = 0; t < tokens.size(); ++t)
        for (size_t head = 0; head < 3; ++head) {
          Case alone = together;
          alone.group = 1;
          alone.tokens = {tokens[t]};
          const size_t row = t * 3 + head, width = size_t(head_dim);
          alone.q.assign(together.q.begin() + int64_t(row * width),
                         together.q.begin() + int64_t((row + 1) * width));
          const State one = attend(alone);
          EXPECT_EQ(one.max[0], all.max[row]);
          EXPECT_EQ(one.sum[0], all.sum[row]);
          EXPECT_TRUE(
              std::equal(one.out.begin(), one.out.end(), all.out.begin() + int64_t(row * width)))
              << "row " << row << " head_dim " << head_dim;
        }
    }
}

TEST_P(Attention, UnseenKeysChangeNothing) {
  for (const KvCode code : {kF32, kBF16}) {
    const Case clean(3, 20, {{10, 70}, {11, 71}, {12, 72}, {13, 73}}, code, code);
    Case dirty = clean;
    for (int64_t p = 0; p < int64_t(dirty.keys.size()) / 20; ++p)
      if (p < 10 || p >= 73)
        for (std::vector<float>* side : {&dirty.keys, &dirty.values})
          std::fill_n(side->begin() + p * 20, 20, NAN);
    EXPECT_EQ(attend(dirty), attend(clean));
    // Nor what others of the tile see.
    dirty = clean;
    std::fill_n(dirty.keys.begin() + 72 * 20, 20, INFINITY);
    std::fill_n(dirty.values.begin() + 72 * 20, 20, NAN);
    std::fill_n(dirty.values.begin() + 10 * 20, 20, NAN);
    const State with = attend(dirty), without = attend(clean);
    for (int64_t i = 3 * 20; i < 9 * 20; ++i)
      EXPECT_EQ(with.out[size_t(i)], without.out[size_t(i)]) << i;
  }
}

TEST_P(Attention, EmptyRangesLeaveRowsAsTheyAre) {
  const Case c(2, 20, {{0, 64}, {30, 30}, {0, 0}});
  State state(c.n_rows(), c.head_dim);
  std::iota(state.out.begin(), state.out.end(), 1.0f);
  std::fill(state.sum.begin(), state.sum.end(), 5.0f);
  std::fill(state.max.begin(), state.max.end(), 2.0f);
  const State before = state;
  attend(c, 0, 1, state);
  EXPECT_NE(state.out[0], before.out[0]);
  EXPECT_TRUE(std::equal(state.out.begin() + 40, state.out.end(), before.out.begin() + 40));
  EXPECT_TRUE(std::equal(state.sum.begin() + 2, state.sum.end(), before.sum.begin() + 2));
  EXPECT_TRUE(std::equal(state.max.begin() + 2, state.max.end(), before.max.begin() + 2));
}

TEST_P(Attention, DoesNotDependOnTheStride) {
  for (const KvCode code : {kF32, kBF16}) {
    Case c(4, 24, {{0, 100}, {2, 101}}, code, code);
    const State tight = attend(c);
    c.stride = 24 * 3 + 5;  // NaN lies between
    EXPECT_EQ(attend(c), tight);
  }
}

TEST_P(Attention, MergesSpansOfPages) {
  for (const int head_dim : {20, 64}) {
    const Case c(3, head_dim, {{0, 300}, {70, 301}, {130, 302}}, kBF16, kBF16);
    State total(c.n_rows(), head_dim);
    for (const Span pages : {Span{0, 2}, {2, 3}, {3, 5}}) {
      State part(c.n_rows(), head_dim);
      attend(c, pages.begin, pages.end, part);
      table().merge_attention(part.view(), c.n_rows(), head_dim, total.view());
    }
    expect_softmax(c, finish(c, total));
  }
}

TEST_P(Attention, MergingNothingOrIntoNothingIsExact) {
  const Case c(3, 20, {{0, 100}});
  State part = attend(c), total(3, 20);
  table().merge_attention(part.view(), 3, 20, total.view());
  EXPECT_EQ(total, part);
  State nothing(3, 20);
  table().merge_attention(nothing.view(), 3, 20, total.view());
  EXPECT_EQ(total, part);
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  const Case c(2, 64, {{0, 133}}, kF32, kF32, 1e4f);  // scores of about 1e5
  for (const float value : run(c)) EXPECT_TRUE(std::isfinite(value));
}

// Two keys with scores 0 and -s and values 0 and 1 show e^-s / (1 + e^-s) itself, in one page and
// through the rescaling between pages.
TEST_P(Attention, ExponentialsAreAccurateFarBelowTheLargestScore) {
  for (const int64_t far : {1, 64})
    for (float s = 0; s < 80; s += 0.37f) {
      Case c(1, 2, {{64 - far, 65}});
      c.q = {1, 0};
      for (int64_t p = 0; p < 65; ++p) {
        // The last key scores highest; those between hold nothing.
        c.keys[size_t(2 * p)] = p == 64 ? 0 : p == 64 - far ? -s : -200;
        c.values[size_t(2 * p)] = p == 64 ? 0 : 1;
        if (p != 64 && p != 64 - far) c.values[size_t(2 * p)] = 0;
      }
      const double expected = std::exp(-double{s}) / (1 + std::exp(-double{s}));
      // 2e-7 for the exponential, three roundings for the quotient and sum. Vectors take
      // e^-60, 8.8e-27, for whatever is less; the reference does not.
      const double floor = s < 60 || GetParam()->isa == Isa::kReference ? 1e-36 : 9e-27;
      EXPECT_NEAR(run(c)[0], expected, (2e-7 + 3 * 0x1p-24) * expected + floor) << s;
    }
}

TEST_P(Attention, EqualKeysAreAveraged) {
  Case c(1, 8, {{0, 1000}});
  std::fill(c.keys.begin(), c.keys.end(), 0.5f);
  std::fill(c.values.begin(), c.values.end(), 3.0f);
  for (const float value : run(c)) EXPECT_FLOAT_EQ(value, 3.0f);
}

INSTANTIATE_TEST_SUITE_P(AllTables, Attention, testing::ValuesIn(available_kernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace lapidary
