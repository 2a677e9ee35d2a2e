// Matrix products on every instruction set: against double-precision sums, against the reference,
// and against themselves when the same work is cut differently.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "kernels/kernels.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

constexpr Code kPacked[] = {Code::kW8,  Code::kW6, Code::kW5, Code::kW4, Code::kW3, Code::kW4x,
                            Code::kW8x, Code::kT3, Code::kT4, Code::kT5, Code::kT6};
constexpr Code kFloats[] = {Code::kF32, Code::kF16, Code::kBF16};
// Around one panel, around two; several.
constexpr int64_t kRows[] = {1, 15, 16, 17, 33, 100};
// One tile, partial tiles, ragged scale blocks at 128 and 512, widths of released models.
constexpr int64_t kPackedWidths[] = {32, 64, 96, 192, 512, 576, 704, 2112};
constexpr int64_t kFloatWidths[] = {1, 2, 7, 8, 9, 31, 64, 96, 192, 511, 513, 2112};
constexpr int64_t kTokens[] = {1, 2, 3, 5, 17};
constexpr float kUntouched = -12345.0f;

// Activations of a matrix: zero beyond its logical k.
std::vector<float> activations_for(const RandomMatrix& w, int64_t n_tokens, uint32_t seed) {
  std::vector<float> x = random_floats(size_t(n_tokens * w.width), seed);
  for (int64_t t = 0; t < n_tokens; ++t)
    for (int64_t k = w.view.k; k < w.width; ++k) x[size_t(t * w.width + k)] = 0;
  return x;
}

std::vector<float> multiply(const KernelTable& table, const RandomMatrix& w,
                            const std::vector<float>& x, int64_t n_tokens) {
  std::vector<float> y(size_t(n_tokens * w.view.rows), kUntouched);
  table.matmul_float(w.view, 0, n_panels(w.view), x.data(), w.width, n_tokens, y.data(),
                     w.view.rows);
  return y;
}

struct Int8Input {
  std::vector<int8_t> q;
  std::vector<float> scales;
  std::vector<int32_t> sums;
  int64_t width, n_scales;  // of a token
  Int8Activations view(int64_t token = 0) const {
    return {q.data() + token * width, scales.data() + token * n_scales,
            sums.data() + token * width / kGroupK, width};
  }
};

// Activations of a matrix of that code; float codes, which have none, take any.
Int8Input quantized(Code code, const std::vector<float>& x, int64_t n_tokens) {
  const int64_t width = static_cast<int64_t>(x.size()) / n_tokens,
                scale_k = std::max(32, traits(code).scale_k);
  const int64_t n_scales = (width + scale_k - 1) / scale_k;
  Int8Input out{std::vector<int8_t>(x.size()), std::vector<float>(size_t(n_tokens * n_scales)),
                std::vector<int32_t>(x.size() / kGroupK), width, n_scales};
  available_kernels().front()->quantize(x.data(), n_tokens, width, scale_k, out.q.data(),
                                        out.scales.data(), out.sums.data());
  return out;
}

std::vector<float> multiply(const KernelTable& table, const RandomMatrix& w, const Int8Input& x,
                            int64_t n_tokens) {
  std::vector<float> y(size_t(n_tokens * w.view.rows), kUntouched);
  table.matmul_int8(w.view, 0, n_panels(w.view), x.view(), n_tokens, y.data(), w.view.rows);
  return y;
}

// |y - sum w x| <= n * eps * sum |w x| holds for any order of summation; a blocked one stays far
// below, but the bound is the honest one. Two more roundings cover the final conversion.
void expect_product(const RandomMatrix& w, const std::vector<float>& x, int64_t n_tokens,
                    const std::vector<float>& y) {
  for (int64_t t = 0; t < n_tokens; ++t)
    for (int64_t row = 0; row < w.view.rows; ++row) {
      double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < w.width; ++k) {
        const double product = w.weight(row, k) * x[size_t(t * w.width + k)];
        sum += product;
        magnitude += std::fabs(product);
      }
      const double lanes = 8;  // the narrowest vector file adds k / 8 products per lane
      const double bound = (double(w.width) / lanes + 16) * 0x1p-24 * magnitude;
      ASSERT_NEAR(y[size_t(t * w.view.rows + row)], sum, bound)
          << code_name(w.view.code) << " token " << t << " row " << row << " k " << w.view.k;
    }
}

class Matmul : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }
  static const KernelTable& reference() { return *available_kernels().front(); }
};

TEST_P(Matmul, FloatCodesGiveTheProduct) {
  for (const Code code : kFloats)
    for (const int64_t rows : kRows)
      for (const int64_t k : kFloatWidths) {
        const RandomMatrix w(code, rows, k, 1);
        const std::vector<float> x = activations_for(w, 3, 2);
        expect_product(w, x, 3, multiply(table(), w, x, 3));
      }
}

TEST_P(Matmul, PackedCodesGiveTheProduct) {
  for (const Code code : kPacked)
    for (const int64_t rows : kRows)
      for (const int64_t k : kPackedWidths) {
        const RandomMatrix w(code, rows, k, 3);
        const std::vector<float> x = activations_for(w, 2, 4);
        expect_product(w, x, 2, multiply(table(), w, x, 2));
      }
}

TEST_P(Matmul, Int8GivesTheReferencesBits) {
  for (const Code code : kPacked)
    for (const int64_t rows : kRows)
      for (const int64_t k : kPackedWidths) {
        const RandomMatrix w(code, rows, k, 5);
        const Int8Input x = quantized(code, activations_for(w, 3, 6), 3);
        ASSERT_EQ(multiply(table(), w, x, 3), multiply(reference(), w, x, 3))
            << code_name(code) << " " << rows << " x " << k;
      }
}

// Kernels change their way with the number of tokens and cut long rows and batches into pieces: 135
// tokens, 2112, 8256 and 24640 inputs and an odd number of panels cross every border there is.
TEST_P(Matmul, Int8GivesTheReferencesBitsForLargeBatchesAndLongRows) {
  struct Shape {
    int64_t rows, k, n_tokens;
  };
  for (const Code code : kPacked)
    for (const auto& [rows, k, n_tokens] :
         {Shape{40, 2112, 135}, {33, 192, 39}, {17, 8256, 5}, {17, 24640, 3}}) {
      const RandomMatrix w(code, rows, k, 20);
      const Int8Input x = quantized(code, activations_for(w, n_tokens, 21), n_tokens);
      const std::vector<float> expected = multiply(reference(), w, x, n_tokens);
      ASSERT_EQ(multiply(table(), w, x, n_tokens), expected)
          << code_name(code) << " " << rows << " x " << k;
      // The first panel alone: the rows behind it are somebody else's.
      std::vector<float> y(expected.size(), kUntouched);
      table().matmul_int8(w.view, 0, 1, x.view(), n_tokens, y.data(), rows);
      for (int64_t t = 0; t < n_tokens; ++t)
        for (int64_t row = 0; row < rows; ++row)
          ASSERT_EQ(y[size_t(t * rows + row)],
                    row < 16 ? expected[size_t(t * rows + row)] : kUntouched);
    }
}

TEST_P(Matmul, FloatResultsOfALargeBatchAreThoseOfTokensAlone) {
  for (const Code code : {Code::kF32, Code::kBF16, Code::kW4}) {
    const RandomMatrix w(code, 20, 1088, 22);
    const std::vector<float> x = activations_for(w, 70, 23);
    const std::vector<float> batch = multiply(table(), w, x, 70);
    for (int64_t t = 0; t < 70; ++t) {
      const std::vector<float> one(x.begin() + t * w.width, x.begin() + (t + 1) * w.width);
      ASSERT_EQ(multiply(table(), w, one, 1),
                std::vector<float>(batch.begin() + t * 20, batch.begin() + (t + 1) * 20))
          << code_name(code) << " token " << t;
    }
  }
}

// The definition in kernels.h, written once more from the recorded weights: exact integers per
// block are multiples of the block's scales, so a double holds them and rounding happens where
// float would.
TEST_P(Matmul, Int8IsExactPerBlock) {
  for (const Code code : kPacked)
    for (const int64_t k : kPackedWidths) {
      const RandomMatrix w(code, 17, k, 7);
      const Int8Input x = quantized(code, activations_for(w, 2, 8), 2);
      const std::vector<float> y = multiply(table(), w, x, 2);
      for (int64_t t = 0; t < 2; ++t)
        for (int64_t row = 0; row < 17; ++row) {
          double sum = 0, magnitude = 0;
          for (int64_t i = 0; i < w.width; ++i) {
            const double product = w.weight(row, i) * x.q[size_t(t * w.width + i)] *
                                   x.view(t).scales[i / traits(code).scale_k];
            sum += product;
            magnitude += std::fabs(product);
          }
          // Per block: the product of scales, the product with the integer, the addition.
          const double blocks = double(w.width) / traits(code).scale_k + 1;
          ASSERT_NEAR(y[size_t(t * 17 + row)], sum, (blocks + 3) * 0x1p-24 * magnitude);
        }
    }
}

TEST_P(Matmul, Int8SurvivesTheLargestIntegers) {
  for (const Code code : kPacked) {
    RandomMatrix w(code, 16, 2112, 9);
    // All code bytes equal: the lowest level everywhere is 0x80 at 8 bits and 0 in the planes; with
    // random multipliers this reaches the ends of the int8 range.
    auto* codes = const_cast<uint8_t*>(w.view.codes);
    const PackedGeometry g = packed_geometry(code, 16, 2112);
    std::memset(codes, traits(code).bits == 8 ? 0x80 : 0, size_t(g.code_bytes));
    Int8Input x{std::vector<int8_t>(2 * 2112, -127),
                std::vector<float>(size_t(2 * g.n_scale_blocks), 1.0f),
                std::vector<int32_t>(2 * 2112 / kGroupK, -127 * kGroupK), 2112, g.n_scale_blocks};
    for (size_t i = 2112; i < x.q.size(); ++i) x.q[i] = i % 2 ? 127 : -127;
    for (size_t i = 2112 / kGroupK; i < x.sums.size(); ++i) x.sums[i] = 0;
    EXPECT_EQ(multiply(table(), w, x, 2), multiply(reference(), w, x, 2)) << code_name(code);
  }
}

TEST_P(Matmul, AnyCodeAndMetaBytesAreDecodedAlike) {
  for (const Code code : {Code::kW5, Code::kW4, Code::kW3}) {
    RandomMatrix w(code, 48, 576, 10);
    const PackedGeometry g = packed_geometry(code, 48, 576);
    // Random bytes over the multipliers: magnitudes above the largest must be clamped everywhere.
    std::mt19937 engine(11);
    auto* meta = const_cast<uint8_t*>(w.view.meta);
    for (int64_t panel = 0; panel < g.n_panels; ++panel)
      for (int64_t i = g.n_scale_blocks * 32; i < g.panel_meta_bytes; ++i)
        meta[panel * g.panel_meta_bytes + i] = static_cast<uint8_t>(engine());
    const Int8Input x = quantized(code, activations_for(w, 2, 12), 2);
    EXPECT_EQ(multiply(table(), w, x, 2), multiply(reference(), w, x, 2)) << code_name(code);
    std::vector<float> rows(48 * 576), expected(48 * 576);
    table().dequantize_rows(w.view, 0, 48, rows.data());
    reference().dequantize_rows(w.view, 0, 48, expected.data());
    EXPECT_EQ(rows, expected) << code_name(code);
  }
}

TEST_P(Matmul, Bf16ScalesAreUnderstood) {
  for (const Code code : {Code::kW4x, Code::kW8x}) {
    const RandomMatrix w(code, 33, 192, 13, ScaleType::kBF16);
    const std::vector<float> x = activations_for(w, 2, 14);
    expect_product(w, x, 2, multiply(table(), w, x, 2));
    const Int8Input q = quantized(code, x, 2);
    EXPECT_EQ(multiply(table(), w, q, 2), multiply(reference(), w, q, 2));
  }
}

TEST_P(Matmul, ATokensResultDoesNotDependOnItsBatch) {
  for (int c = 0; c < kCodeCount; ++c) {
    const Code code = static_cast<Code>(c);
    const RandomMatrix w(code, 33, 704, 15);
    const std::vector<float> x = activations_for(w, 17, 16);
    std::vector<float> alone;
    for (int64_t t = 0; t < 17; ++t) {
      const std::vector<float> one(x.begin() + t * w.width, x.begin() + (t + 1) * w.width);
      const std::vector<float> y = multiply(table(), w, one, 1);
      alone.insert(alone.end(), y.begin(), y.end());
    }
    for (const int64_t n_tokens : kTokens) {
      const std::vector<float> first(x.begin(), x.begin() + n_tokens * w.width);
      const std::vector<float> expected(alone.begin(), alone.begin() + n_tokens * 33);
      ASSERT_EQ(multiply(table(), w, first, n_tokens), expected) << code_name(code);
    }
    if (traits(code).is_float) continue;
    const Int8Input q = quantized(code, x, 17);
    const std::vector<float> batch = multiply(table(), w, q, 17);
    for (int64_t t = 0; t < 17; ++t) {
      std::vector<float> y(33);
      table().matmul_int8(w.view, 0, n_panels(w.view), q.view(t), 1, y.data(), 33);
      ASSERT_EQ(y, std::vector<float>(batch.begin() + t * 33, batch.begin() + (t + 1) * 33))
          << code_name(code);
    }
  }
}

TEST_P(Matmul, PanelRangesAndStridesChangeNothingAndTouchNothingElse) {
  for (int c = 0; c < kCodeCount; ++c) {
    const Code code = static_cast<Code>(c);
    const RandomMatrix w(code, 40, 192, 17);
    const std::vector<float> x = activations_for(w, 5, 18);
    const std::vector<float> whole = multiply(table(), w, x, 5);
    // Input and output with wider, odd strides; the input misaligned by one float.
    const int64_t ldx = w.width + 3, ldy = 45;
    std::vector<float> wide(size_t(5 * ldx + 1), 1e30f);
    for (int64_t t = 0; t < 5; ++t)
      for (int64_t k = 0; k < w.width; ++k)
        wide[size_t(1 + t * ldx + k)] = x[size_t(t * w.width + k)];
    const Int8Input q = quantized(code, x, 5);
    const std::vector<float> whole_int8 =
        traits(code).is_float ? std::vector<float>() : multiply(table(), w, q, 5);
    for (const int64_t panel : {0, 1, 2}) {
      std::vector<float> y(size_t(5 * ldy), kUntouched), y8 = y;
      table().matmul_float(w.view, panel, 1, wide.data() + 1, ldx, 5, y.data(), ldy);
      if (!whole_int8.empty()) table().matmul_int8(w.view, panel, 1, q.view(), 5, y8.data(), ldy);
      for (int64_t t = 0; t < 5; ++t)
        for (int64_t row = 0; row < ldy; ++row) {
          const bool inside = row / 16 == panel && row < 40;
          ASSERT_EQ(y[size_t(t * ldy + row)], inside ? whole[size_t(t * 40 + row)] : kUntouched);
          if (!whole_int8.empty()) {
            ASSERT_EQ(y8[size_t(t * ldy + row)],
                      inside ? whole_int8[size_t(t * 40 + row)] : kUntouched);
          }
        }
    }
  }
}

TEST_P(Matmul, DequantizedRowsAreTheWeightsWithTheRotationUndone) {
  for (int c = 0; c < kCodeCount; ++c) {
    const Code code = static_cast<Code>(c);
    for (const int64_t k : {int64_t{96}, int64_t{192}, int64_t{576}}) {
      const RandomMatrix w(code, 33, k, 19);
      for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 33}, {15, 3}, {32, 1}}) {
        std::vector<float> rows(size_t(count * k), kUntouched);
        table().dequantize_rows(w.view, first, count, rows.data());
        for (int64_t row = first; row < first + count; ++row)
          for (int64_t i = 0; i < k; ++i) {
            double expected = w.weight(row, i);
            double magnitude = 0;
            if (w.view.rotated) {
              expected = 0;
              for (int64_t j = 0; j < 64; ++j) {
                const double part = w.weight(row, i / 64 * 64 + j) / 8;
                expected += std::popcount(uint64_t(i % 64 & j)) % 2 ? -part : part;
                magnitude += std::fabs(part);
              }
              if (kRotationSigns >> (i % 64) & 1) expected = -expected;
            }
            // Six additions deep; exact without rotation.
            ASSERT_NEAR(rows[size_t((row - first) * k + i)], expected, 6 * 0x1p-24 * magnitude)
                << code_name(code) << " row " << row << " k " << i;
          }
        std::vector<float> reference_rows(rows.size());
        reference().dequantize_rows(w.view, first, count, reference_rows.data());
        ASSERT_EQ(rows, reference_rows);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllTables, Matmul, testing::ValuesIn(available_kernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace lapidary
