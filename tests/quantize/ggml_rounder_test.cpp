// GGUF's block types under error feedback: what the rounder believes to have stored is what the
// blocks decode to, and outputs lose less than after plain rounding.
#include "quantize/ggml_rounder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/ggml_blocks.h"
#include "kernels/ggml_encode.h"
#include "quantize/gguf_types.h"
#include "quantize/round_tensor.h"
#include "tests/quantize/calibration_data.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

constexpr GgmlType kTypes[] = {GgmlType::kQ8_0,   GgmlType::kQ6_K,   GgmlType::kQ5_K,
                               GgmlType::kQ5_0,   GgmlType::kQ4_K,   GgmlType::kQ4_0,
                               GgmlType::kIQ4_NL, GgmlType::kIQ4_XS, GgmlType::kQ3_K};

std::vector<float> decoded(GgmlType type, std::span<const uint8_t> blocks, size_t n) {
  std::vector<float> values(n);
  decode_blocks(type, blocks, values);
  return values;
}

// Sum over tokens of squared outputs of w - stored.
double output_error(const std::vector<float>& x, const std::vector<float>& w,
                    const std::vector<float>& stored, int64_t rows, int64_t k) {
  double error = 0;
  for (size_t t = 0; t < x.size() / static_cast<size_t>(k); ++t)
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i)
        sum += x[t * static_cast<size_t>(k) + i] * (double{w[r * k + i]} - stored[r * k + i]);
      error += sum * sum;
    }
  return error;
}

TEST(GgmlRounder, StoresWhatItCountsAndLosesLessThanPlainRounding) {
  ThreadPool pool(2);
  FloatMatrix scratch;
  constexpr int64_t kRows = 70;  // two strips, the last short
  for (const GgmlType type : kTypes) {
    // Rows of 32-wide blocks that end inside a tile.
    const int64_t k = traits(type).block_values == 32 ? 352 : 768;
    const std::vector<float> x = correlated_rows(600, k, 10), w = random_weights(kRows, k, 11);
    const Factor f = factorize(hessian_of(x, k, false, pool), 0.01, scratch, pool);
    LapTensor entry;
    entry.shape = {kRows, k};
    entry.code = Code::kW8x;
    entry.layout = Layout::kPanels;
    TensorRounding rounding(entry, type);
    rounding.round(0, {Code::kF32, reinterpret_cast<const uint8_t*>(w.data()), k}, f, scratch,
                   pool);
    ASSERT_TRUE(rounding.fits());
    const std::vector<float> fed = decoded(type, rounding.stored(), w.size());
    std::vector<uint8_t> blocks(rounding.stored().size());
    encode_blocks(type, w, blocks);
    const std::vector<float> plain = decoded(type, blocks, w.size());
    const double after = output_error(x, w, fed, kRows, k);
    EXPECT_LT(after, 0.7 * output_error(x, w, plain, kRows, k)) << traits(type).name;
    // tr(E H E^T) of the values it believes in; H is a float32 sum over tokens.
    EXPECT_NEAR(rounding.loss().error, after, 1e-3 * after) << traits(type).name;
  }
}

TEST(GgmlRounder, KeepsZerosAndBlindInputsFinite) {
  ThreadPool pool(1);
  FloatMatrix scratch;
  const Factor f = factorize(Hessian(256, false), 0.01, scratch, pool);
  LapTensor entry;
  entry.shape = {16, 256};
  entry.code = Code::kW8x;
  entry.layout = Layout::kPanels;
  const std::vector<float> zeros(16 * 256, 0.0f);
  for (const GgmlType type : kTypes) {
    TensorRounding rounding(entry, type);
    rounding.round(0, {Code::kF32, reinterpret_cast<const uint8_t*>(zeros.data()), 256}, f, scratch,
                   pool);
    for (const float v : decoded(type, rounding.stored(), zeros.size()))
      EXPECT_EQ(v, 0.0f) << traits(type).name;
  }
}

TEST(GgufTypes, KeepToTheBudgetAndToPatterns) {
  TemporaryFolder folder;
  const auto model = LapReader::open(converted_path("nano-e"));
  GgufTypeOptions options;
  options.bits_per_weight = 5.5;
  options.n_tokens = 256;
  options.scratch = folder.file("scratch");
  options.n_threads = 2;
  options.keep = {{"*.k_proj.weight", GgmlType::kQ8_0}};
  const auto types = choose_gguf_types(*model, converted_path("nano-e"), options, {}).types;
  const double bits = gguf_bits_per_weight(*model, types);
  EXPECT_LE(bits, 5.5);
  EXPECT_GT(bits, 5.4);
  std::map<GgmlType, int> seen;
  for (const auto& [name, type] : types) {
    ++seen[type];
    if (name.ends_with("k_proj.weight")) {
      EXPECT_EQ(type, GgmlType::kQ8_0) << name;
    }
  }
  EXPECT_GE(seen.size(), 3u);
  options.bits_per_weight = 2;
  EXPECT_THROW(choose_gguf_types(*model, converted_path("nano-e"), options, {}), Error);
  options.bits_per_weight.reset();
  options.keep = {{"no.such.*", GgmlType::kQ8_0}};
  EXPECT_THROW(choose_gguf_types(*model, converted_path("nano-e"), options, {}), Error);
}

}  // namespace
}  // namespace lapidary
