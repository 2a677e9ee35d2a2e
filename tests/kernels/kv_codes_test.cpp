// Rotation, packing and queries of the KV codes: orthogonal, as good as theory, the same in every
// table.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/kv_pages.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

class KvCodes : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }
};

double dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return sum;
}

TEST_P(KvCodes, RotationIsOrthogonal) {
  for (const int n : {2, 8, 16, 48, 64, 80, 96, 128, 200, 256, 384, 512, 1000}) {
    const int stride = n + 3;
    const std::vector<float> original = random_floats(size_t(stride * 3), 7);
    std::vector<float> x = original;
    table().kv_rotate(x.data(), 3, stride, n);
    for (int a = 0; a < 3; ++a)
      for (int b = 0; b < 3; ++b)
        // Each butterfly level rounds once: log2 n levels, twice where two transforms overlap.
        EXPECT_NEAR(dot(&x[size_t(a * stride)], &x[size_t(b * stride)], n),
                    dot(&original[size_t(a * stride)], &original[size_t(b * stride)], n),
                    40 * 0x1p-24 * n);
    for (int v = 0; v < 3; ++v)
      for (int i = n; i < stride; ++i)
        EXPECT_EQ(x[size_t(v * stride + i)], original[size_t(v * stride + i)]);
    std::vector<float> expected = original;
    kernels_up_to("reference").kv_rotate(expected.data(), 3, stride, n);
    EXPECT_EQ(x, expected) << n;
    kernels_up_to("reference").kv_unrotate(expected.data(), 3, stride, n);
    table().kv_unrotate(x.data(), 3, stride, n);
    EXPECT_EQ(x, expected) << n;
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], original[i], 1e-5f);
  }
}

TEST_P(KvCodes, RotationSpreadsAnOutlier) {
  for (const int n : {64, 80, 96, 128, 384, 512}) {
    std::vector<float> x(size_t(n), 0.0f);
    x[size_t(n / 3)] = 1;
    table().kv_rotate(x.data(), 1, n, n);
    float largest = 0;
    for (const float value : x) largest = std::fmax(largest, std::fabs(value));
    EXPECT_LE(largest, 4 / std::sqrt(float(n))) << n;
  }
}

// 64 Gaussian vectors a page, `n_pages` pages; their codes and what they decode to.
struct Pages {
  KvPageGeometry geometry;
  std::vector<float> x, decoded;  // [tokens, head_dim]
  std::vector<uint8_t> bytes;

  Pages(const KernelTable& table, KvRole role, KvCode code, int d, int n_pages, float scale = 1,
        int n_rotary = 0)
      : geometry(kv_page_geometry(role, code, d, n_rotary)),
        x(random_floats(size_t(n_pages * kPageTokens * d), 11, scale)),
        decoded(x.size()) {
    std::vector<uint16_t> rows;
    for (float& value : x) {
      rows.push_back(float_to_bf16(value));
      value = bf16_to_float(rows.back());
    }
    bytes.resize(size_t(n_pages * geometry.bytes));
    for (int p = 0; p < n_pages; ++p) {
      pack_kv_page(table, geometry, &rows[size_t(p * kPageTokens * d)], d,
                   &bytes[size_t(p * geometry.bytes)]);
      decode_kv_page(geometry, &bytes[size_t(p * geometry.bytes)],
                     &decoded[size_t(p * kPageTokens * d)]);
    }
  }
  double error() const {
    double wrong = 0, right = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      wrong += std::pow(double{x[i]} - decoded[i], 2);
      right += std::pow(double{x[i]}, 2);
    }
    return wrong / right;
  }
};

// Relative squared error on Gaussian vectors whose norm is known and whose gain is fitted (which
// takes one more of d degrees of freedom). Lloyd-Max for a sphere's exact marginals, by numerical
// integration, is 1 - 2.5 / d of a Gaussian's 9.5e-3 at 4 bits, 1 - 2.1 / d at 3; so about 1 - 2.7
// / d at 5 and 1 - 2.1 / d for the pairs.
double theory(KvCode code, int d) {
  const double gaussian = code == KvCode::k5Bit   ? .002505
                          : code == KvCode::k4Bit ? .009501
                                                  : .02968;
  const double norm = code == KvCode::k5Bit ? 2.7 : code == KvCode::k4Bit ? 2.5 : 2.1;
  return gaussian * (1 - norm / d) * (1 - 1.0 / d);
}

TEST_P(KvCodes, ErrorIsTheCodesOwn) {
  for (const KvCode code : {KvCode::k5Bit, KvCode::k4Bit, KvCode::k3Bit})
    for (const int d : {64, 128, 256, 512}) {
      const Pages pages(table(), KvRole::kValues, code, d, 2048 / d * 4);
      EXPECT_NEAR(pages.error() / theory(code, d), 1, 0.02) << kv_bits(code) << " bits, " << d;
    }
  // A level's rounding error is uniform: step^2 / 12, step = absmax / 127 of each 128.
  for (const int d : {64, 128, 256, 512}) {
    const Pages pages(table(), KvRole::kValues, KvCode::kInt8, d, 2048 / d * 4);
    double expected = 0, right = 0;
    const size_t block = size_t(std::min(d, 128));
    for (size_t first = 0; first < pages.x.size(); first += block) {
      double largest = 0;
      for (size_t i = first; i < first + block; ++i) {
        largest = std::fmax(largest, std::fabs(pages.x[i]));
        right += std::pow(pages.x[i], 2);
      }
      expected += double(block) * std::pow(largest / 127, 2) / 12;
    }
    EXPECT_NEAR(pages.error() * right / expected, 1, 0.02) << d;
  }
}

TEST_P(KvCodes, GainMakesProductsUnbiased) {
  for (const KvCode code : {KvCode::k5Bit, KvCode::k4Bit, KvCode::k3Bit})
    for (const KvRole role : {KvRole::kKeys, KvRole::kBoth})
      for (const int d : {64, 96, 128, 512}) {
        const Pages pages(table(), role, code, d, 4);
        double ratio = 0;
        const int n = int(pages.x.size()) / d;
        for (int v = 0; v < n; ++v)
          ratio += dot(&pages.x[size_t(v * d)], &pages.decoded[size_t(v * d)], d) /
                   dot(&pages.x[size_t(v * d)], &pages.x[size_t(v * d)], d) / n;
        EXPECT_NEAR(ratio, 1, 5e-5);  // fp16 rounds each gain by up to 4.9e-4, at random
      }
}

TEST_P(KvCodes, PagesAreTheReferencesAtOddSizes) {
  const KernelTable& reference = kernels_up_to("reference");
  for (const KvRole role : {KvRole::kKeys, KvRole::kValues, KvRole::kBoth})
    for (const KvCode code : {KvCode::kInt8, KvCode::k5Bit, KvCode::k4Bit, KvCode::k3Bit})
      for (const int d : {2, 24, 64, 80, 96, 160, 512}) {
        const int n_rotary = role == KvRole::kBoth ? d / 8 * 2 : 0;
        for (const float scale : {1.0f, 1e-3f, 3e3f}) {
          const Pages ours(table(), role, code, d, 1, scale, n_rotary);
          EXPECT_EQ(ours.bytes, Pages(reference, role, code, d, 1, scale, n_rotary).bytes)
              << "role " << int(role) << ", " << kv_bits(code) << " bits, " << d;
        }
      }
}

TEST_P(KvCodes, ZeroAndNonFiniteVectorsStayWhatTheyAre) {
  for (const KvCode code : {KvCode::kInt8, KvCode::k5Bit, KvCode::k4Bit, KvCode::k3Bit}) {
    const int d = 64;
    const KvPageGeometry geometry = kv_page_geometry(KvRole::kKeys, code, d);
    std::vector<uint16_t> rows(size_t(kPageTokens * d), 0);
    for (int i = 0; i < d; ++i) rows[size_t(d + i)] = float_to_bf16(float(i - 30));
    rows[size_t(5 * d + 7)] = 0x7fc0;  // NaN
    rows[size_t(6 * d + 9)] = 0x7f80;  // infinity
    std::vector<uint8_t> page(size_t(geometry.bytes));
    pack_kv_page(table(), geometry, rows.data(), d, page.data());
    std::vector<float> out(rows.size());
    decode_kv_page(geometry, page.data(), out.data());
    EXPECT_EQ(out[0], 0);
    EXPECT_NEAR(out[size_t(d + 63)], 33, 8);
    EXPECT_TRUE(std::isnan(out[size_t(5 * d)]));
    EXPECT_TRUE(std::isnan(out[size_t(6 * d + 1)]));
    EXPECT_EQ(out[size_t(7 * d)], 0);
  }
}

TEST_P(KvCodes, QueriesSplitIntoTwoPlanes) {
  for (const int n : {16, 32, 96, 512, 1024}) {
    const std::vector<float> q = random_floats(size_t(n), 3, 2.5f);
    std::vector<int8_t> high(q.size()), low(q.size()), high2(q.size()), low2(q.size());
    const float scale = table().split_query(q.data(), n, high.data(), low.data());
    EXPECT_EQ(scale,
              kernels_up_to("reference").split_query(q.data(), n, high2.data(), low2.data()));
    EXPECT_EQ(high, high2);
    EXPECT_EQ(low, low2);
    for (size_t i = 0; i < q.size(); ++i) {
      EXPECT_LE(std::fabs(q[i] - scale * float(high[i])), scale * 0.5001f);
      EXPECT_LE(std::fabs(q[i] - scale * (float(high[i]) + float(low[i]) / 254)),
                scale * 0.5001f / 254);
    }
  }
  std::vector<float> q(32, 1.0f);
  std::vector<int8_t> high(32, 1), low(32, 1);
  q[5] = NAN;
  EXPECT_TRUE(std::isnan(table().split_query(q.data(), 32, high.data(), low.data())));
  EXPECT_EQ(high, std::vector<int8_t>(32, 0));
  std::fill(q.begin(), q.end(), 0.0f);
  EXPECT_EQ(table().split_query(q.data(), 32, high.data(), low.data()), 0);
}

INSTANTIATE_TEST_SUITE_P(AllTables, KvCodes, testing::ValuesIn(available_kernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace lapidary
