// Error feedback against its definition: every stored value is the nearest that its code offers to
// the target that the definition gives it, whatever the blocking. And what it is for: the outputs'
// error is below that of plain rounding.
#include "quantize/ldlq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "kernels/kernels.h"
#include "quantize/pack_rows.h"
#include "quantize/scalar_rounder.h"
#include "quantize/trellis_rounder.h"
#include "tests/quantize/calibration_data.h"

namespace lapidary {
namespace {

// Rounds to multiples of a step, `block` columns together without feedback among them.
class GridRounder : public BlockRounder {
 public:
  GridRounder(int block, float step) : block_(block), step_(step) {}
  int block_k() const override { return block_; }
  void round(const StripBlock& b) override {
    for (int i = 0; i < b.n_k * kStripRows; ++i)
      b.values[i] = step_ * std::nearbyint(b.targets[i] / step_);
  }

 private:
  int block_;
  float step_;
};

TEST(Ldlq, NothingSeenMeansNoFeedback) {
  ThreadPool pool(1);
  FloatMatrix scratch;
  const Factor f = factorize(Hessian(100, true), 0.01, scratch, pool);
  EXPECT_TRUE(f.blind);
  const std::vector<float> w = random_weights(3, 100, 5);
  FloatMatrix strips = strips_of(w, 3, 100, true);
  GridRounder grid(16, 0.01f);
  const FeedbackLoss loss = round_with_feedback(f, 0, 3, strips.data(), grid, scratch, pool);
  EXPECT_NEAR(loss.error, loss.plain_error, 1e-6 * loss.error);  // float32 sums of squares
  EXPECT_NEAR(loss.energy, loss.plain_energy, 1e-6 * loss.energy);
  for (int i = 0; i < 3 * 100; ++i) EXPECT_LE(std::fabs(strips.data()[i]), 0.00501f);
}

// A vector code: blocks of 16 columns, feedback from all columns behind the block.
TEST(Ldlq, GivesBlocksTheTargetsOfTheDefinition) {
  ThreadPool pool(2);
  FloatMatrix scratch;
  constexpr int64_t kN = 1100, kRows = 70;
  const std::vector<float> x = correlated_rows(400, kN, 6), w = random_weights(kRows, kN, 7);
  const Factor f = factorize(hessian_of(x, kN, true, pool), 0.01, scratch, pool);
  const FloatMatrix original = strips_of(w, kRows, kN, true);
  for (const int block : {16, 64, 512}) {
    FloatMatrix e = strips_of(w, kRows, kN, true);
    GridRounder grid(block, 0.01f);
    const FeedbackLoss loss = round_with_feedback(f, 0, kRows, e.data(), grid, scratch, pool);
    double error = 0, energy = 0;
    for (const int64_t row : {int64_t{0}, int64_t{63}, int64_t{64}, int64_t{69}})
      for (int64_t j = 0; j < f.n; ++j) {
        const auto value = [&](const FloatMatrix& m, int64_t k) {
          return double{m.data()[(row / 64 * f.n + k) * kStripRows + row % 64]};
        };
        double target = value(original, j);
        for (int64_t k = (j / block + 1) * block; k < f.n; ++k) target += value(e, k) * at(f, k, j);
        const double stored = value(original, j) - value(e, j);
        ASSERT_NEAR(stored, target, 0.005 + 1e-5) << block << " " << j;
      }
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t j = 0; j < f.n; ++j) {
        double through_e = 0, through_w = 0;
        for (int64_t k = j; k < f.n; ++k) {
          const int64_t i = (row / 64 * f.n + k) * kStripRows + row % 64;
          through_e += double{e.data()[i]} * at(f, k, j);
          through_w += double{original.data()[i]} * at(f, k, j);
        }
        const int64_t i = (row / 64 * f.n + j) * kStripRows + row % 64;
        error += f.d[j] * through_e * through_e - f.ridge * std::pow(e.data()[i], 2);
        energy += f.d[j] * through_w * through_w - f.ridge * std::pow(original.data()[i], 2);
      }
    EXPECT_NEAR(loss.error, error, 1e-4 * error);
    EXPECT_NEAR(loss.energy, energy, 1e-4 * energy);
  }
}

struct Packed {
  PackedGeometry g;
  std::vector<uint8_t> codes, meta;
  FeedbackLoss loss;
  std::vector<float> values(int64_t rows, bool rotated) const {
    MatrixView view{.code = g.code,
                    .rows = rows,
                    .k = g.k,
                    .rotated = rotated,
                    .codes = codes.data(),
                    .meta = meta.data()};
    std::vector<float> out(static_cast<size_t>(rows * g.k));
    kernels().dequantize_rows(view, 0, rows, out.data());
    return out;
  }
};

Packed round_code(Code code, const Factor& f, const std::vector<float>& w, int64_t rows, int64_t k,
                  bool rotated, int refits, ThreadPool& pool) {
  Packed out{packed_geometry(code, rows, k), {}, {}, {}};
  out.codes.resize(static_cast<size_t>(out.g.code_bytes));
  out.meta.resize(static_cast<size_t>(out.g.meta_bytes));
  FloatMatrix strips = strips_of(w, rows, k, rotated), scratch;
  std::unique_ptr<BlockRounder> rounder;
  const PanelStore store{out.g, rotated, 0, out.codes, out.meta};
  if (traits(code).is_trellis)
    rounder = std::make_unique<TrellisRounder>(store, TrellisRounding{});
  else
    rounder = std::make_unique<ScalarRounder>(store, ScalarRounding{.refits = refits});
  out.loss = round_with_feedback(f, 0, rows, strips.data(), *rounder, scratch, pool);
  return out;
}

constexpr Code kScalarCodes[] = {Code::kW8, Code::kW6,  Code::kW5, Code::kW4,
                                 Code::kW3, Code::kW4x, Code::kW8x};
constexpr Code kAllCodes[] = {Code::kW8,  Code::kW6, Code::kW5, Code::kW4, Code::kW3, Code::kW4x,
                              Code::kW8x, Code::kT3, Code::kT4, Code::kT5, Code::kT6};

// Column by column inside scale blocks, across tiles and batches: the stored value is the nearest
// of its row's and group's levels to the target of the definition.
TEST(Ldlq, ScalarCodesStoreTheNearestLevelToEachTarget) {
  ThreadPool pool(2);
  FloatMatrix scratch;
  constexpr int64_t kN = 704, kRows = 70;  // two batches, the last of three tiles
  const std::vector<float> x = correlated_rows(400, kN, 8), w = random_weights(kRows, kN, 9);
  const Factor f = factorize(hessian_of(x, kN, false, pool), 0.01, scratch, pool);
  for (const Code code : kScalarCodes) {
    const Packed packed = round_code(code, f, w, kRows, kN, false, 2, pool);
    const std::vector<float> stored = packed.values(kRows, false);
    for (const int64_t row : {int64_t{0}, int64_t{31}, int64_t{66}}) {
      const int64_t panel = row / kPanelRows;
      const PanelIntegers integers =
          unpack_panel(packed.g,
                       std::span(packed.codes)
                           .subspan(panel * packed.g.panel_code_bytes, packed.g.panel_code_bytes),
                       std::span(packed.meta)
                           .subspan(panel * packed.g.panel_meta_bytes, packed.g.panel_meta_bytes));
      for (int64_t j = 0; j < kN; ++j) {
        double target = w[row * kN + j];
        for (int64_t k = j + 1; k < kN; ++k)
          target += (double{w[row * kN + k]} - stored[row * kN + k]) * at(f, k, j);
        const double scale = scale_to_float(
            ScaleType::kF16,
            integers.scales[row % 16 * packed.g.n_scale_blocks + j / traits(code).scale_k]);
        const double multiplier =
            integers.multipliers.empty()
                ? 1
                : integers.multipliers[row % 16 * packed.g.n_groups + j / kGroupK];
        double nearest = INFINITY;
        for (const int8_t level : levels(code))
          nearest = std::min(nearest, std::fabs(target - scale * multiplier * level));
        ASSERT_NEAR(std::fabs(target - stored[row * kN + j]), nearest, 2e-6)
            << code_name(code) << " row " << row << " column " << j;
      }
    }
  }
}

double output_error(const std::vector<float>& x, const std::vector<float>& w,
                    const std::vector<float>& stored, int64_t rows, int64_t k) {
  double error = 0;
  for (int64_t t = 0; t < static_cast<int64_t>(x.size()) / k; t += 3)
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i)
        sum += x[t * k + i] * (double{w[r * k + i]} - stored[r * k + i]);
      error += sum * sum;
    }
  return error;
}

TEST(Ldlq, LosesLessThanPlainRounding) {
  ThreadPool pool(2);
  FloatMatrix scratch;
  constexpr int64_t kN = 320, kRows = 48;
  const std::vector<float> x = correlated_rows(900, kN, 10), w = random_weights(kRows, kN, 11);
  for (const bool rotated : {false, true}) {
    const Factor f = factorize(hessian_of(x, kN, rotated, pool), 0.01, scratch, pool);
    for (const Code code : kAllCodes) {
      const PackedGeometry g = packed_geometry(code, kRows, kN);
      Packed plain{g, std::vector<uint8_t>(g.code_bytes), std::vector<uint8_t>(g.meta_bytes), {}};
      const FloatRows rows{Code::kF32, reinterpret_cast<const uint8_t*>(w.data()), kN};
      for (int64_t p = 0; p < g.n_panels; ++p)
        pack_panel_rows(g, rotated, rows, p * kPanelRows, kPanelRows,
                        std::span(plain.codes).subspan(p * g.panel_code_bytes, g.panel_code_bytes),
                        std::span(plain.meta).subspan(p * g.panel_meta_bytes, g.panel_meta_bytes));
      const Packed fed = round_code(code, f, w, kRows, kN, rotated, 2, pool);
      const double before = output_error(x, w, plain.values(kRows, rotated), kRows, kN);
      const double after = output_error(x, w, fed.values(kRows, rotated), kRows, kN);
      EXPECT_LT(after, 0.6 * before) << code_name(code);
      // What the report says is what the outputs lose; a third of the tokens is a sample.
      EXPECT_NEAR(fed.loss.error / 3, after, 0.1 * after) << code_name(code);
    }
  }
}

TEST(Ldlq, WritesTheSameBytesAtAnyNumberOfThreads) {
  constexpr int64_t kN = 576, kRows = 200;
  const std::vector<float> x = correlated_rows(300, kN, 12), w = random_weights(kRows, kN, 13);
  for (const Code code : {Code::kW4, Code::kT4}) {
    std::vector<Packed> results;
    for (const int n_threads : {1, 2, 3}) {
      ThreadPool pool(n_threads, n_threads);
      FloatMatrix scratch;
      const Factor f = factorize(hessian_of(x, kN, true, pool), 0.01, scratch, pool);
      results.push_back(round_code(code, f, w, kRows, kN, true, 2, pool));
      EXPECT_EQ(results.back().codes, results.front().codes);
      EXPECT_EQ(results.back().meta, results.front().meta);
      EXPECT_EQ(results.back().loss.error, results.front().loss.error);
    }
  }
}

// A model may never use some inputs; their weights are rounded as if alone.
TEST(Ldlq, DeadInputsAreRoundedPlainly) {
  ThreadPool pool(1);
  FloatMatrix scratch;
  constexpr int64_t kN = 128, kRows = 16;
  std::vector<float> x = correlated_rows(300, kN, 14);
  for (size_t t = 0; t < 300; ++t)
    for (size_t i = 32; i < 64; ++i) x[t * kN + i] = 0;
  const std::vector<float> w = random_weights(kRows, kN, 15);
  const Factor f = factorize(hessian_of(x, kN, false, pool), 0.01, scratch, pool);
  const Packed packed = round_code(Code::kW8, f, w, kRows, kN, false, 2, pool);
  const std::vector<float> stored = packed.values(kRows, false);
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t i = 32; i < 64; ++i)
      EXPECT_NEAR(stored[r * kN + i], w[r * kN + i], 0.0006f);  // half of 0.1 / 100 or so
}

}  // namespace
}  // namespace lapidary
