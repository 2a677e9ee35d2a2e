// What the forward pass fuses must be, bit for bit, what the kernels give one after another.
#include "runtime/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

// The kernels one after another, over whole matrices.
std::vector<float> product(const MatrixView& w, const std::vector<float>& x, int64_t n_tokens,
                           InputBits bits) {
  const KernelTable& table = kernels();
  std::vector<float> y(static_cast<size_t>(n_tokens * w.rows));
  const int64_t width = padded_k(w);
  std::vector<float> input(static_cast<size_t>(n_tokens * width));
  for (int64_t t = 0; t < n_tokens; ++t)
    std::copy_n(x.begin() + t * w.k, w.k, input.begin() + t * width);
  if (w.rotated) table.rotate(input.data(), n_tokens, width);
  if (traits(w.code).is_float || bits == InputBits::kFloat) {
    table.matmul_float(w, 0, n_panels(w), input.data(), width, n_tokens, y.data(), w.rows);
    return y;
  }
  const int64_t scale_k = traits(w.code).scale_k;
  const auto add_int8 = [&] {  // y += W int8(input), input = what int8 has left of it
    std::vector<int8_t> q(input.size());
    std::vector<float> scales(static_cast<size_t>(n_tokens * ((width + scale_k - 1) / scale_k)));
    std::vector<int32_t> sums(input.size() / kGroupK);
    std::vector<float> part(y.size());
    table.quantize(input.data(), n_tokens, width, scale_k, q.data(), scales.data(), sums.data());
    table.matmul_int8(w, 0, n_panels(w), {q.data(), scales.data(), sums.data(), width}, n_tokens,
                      part.data(), w.rows);
    for (size_t i = 0; i < y.size(); ++i) y[i] += part[i];
    for (int64_t t = 0; t < n_tokens; ++t)
      for (int64_t k = 0; k < width; ++k)
        input[t * width + k] -=
            q[t * width + k] * scales[t * ((width + scale_k - 1) / scale_k) + k / scale_k];
  };
  add_int8();
  if (bits == InputBits::kTwice8) add_int8();
  return y;
}

// activation(rows [0, width) of gate) * rows [first, first + width) of up.
std::vector<float> gated(const std::vector<float>& gate, int64_t gate_rows,
                         const std::vector<float>& up, int64_t up_rows, int64_t first,
                         int64_t width, int64_t n_tokens) {
  std::vector<float> out(static_cast<size_t>(n_tokens * width));
  for (int64_t t = 0; t < n_tokens; ++t)
    kernels().gelu_mul(gate.data() + t * gate_rows, up.data() + t * up_rows + first, width,
                       out.data() + t * width);
  return out;
}

struct Case {
  Code code;
  InputBits bits;
};

class LinearProducts : public testing::TestWithParam<Case> {
 protected:
  Linear linear(int64_t n_floats, int64_t n_rows) {
    return Linear(kernels(), pool_, GetParam().bits, kernels().gelu_mul,
                  {.n_floats = n_floats, .n_rows = n_rows, .n_products = 8});
  }
  ThreadPool pool_{3, 3};
};

// The widths: one tile, a ragged scale block. 130 tokens are more than one tile of a gated product.
constexpr int64_t kWidths[] = {64, 704};
constexpr int64_t kTokens[] = {1, 3, 40, 130};

TEST_P(LinearProducts, GatedAreTheTwoProductsActivated) {
  const auto [code, bits] = GetParam();
  for (const int64_t k : kWidths)
    for (const int64_t d_ff : {16, 50, 160})
      for (const int64_t n : kTokens) {
        const RandomMatrix gate(code, d_ff, k, 1), up(code, d_ff, k, 2);
        const std::vector<float> x = random_floats(static_cast<size_t>(n * k), 3);
        std::vector<float> y(static_cast<size_t>(n * d_ff), -1);
        const Product product_of{
            .w = &gate.view, .y = y.data(), .up = {.w = &up.view, .width = d_ff}};
        Linear l = linear(n * (k + 63) / 64 * 64, n);
        l.begin(x.data(), n, k, {&product_of, 1});
        l.each_row(n, [&](int64_t t) { l.prepare_row(t); });
        l.run({&product_of, 1});
        EXPECT_EQ(y, gated(product(gate.view, x, n, bits), d_ff, product(up.view, x, n, bits), d_ff,
                           0, d_ff, n))
            << k << " inputs, " << d_ff << " outputs, " << n << " tokens";
      }
}

TEST_P(LinearProducts, GatedHalvesOfOneMatrixNeedNoWholePanels) {
  const auto [code, bits] = GetParam();
  const int64_t k = 96;
  for (const int64_t d_expert : {8, 24, 70, 704}) {
    const int64_t n = 5, first = 2, n_here = 2;  // rows of x for this expert
    const RandomMatrix both(code, 2 * d_expert, k, 4);
    const std::vector<float> x = random_floats(static_cast<size_t>(n * k), 5);
    std::vector<float> y(static_cast<size_t>(n * d_expert), -1);
    const Product product_of{.w = &both.view,
                             .y = y.data(),
                             .first = first,
                             .n_rows = n_here,
                             .up = {&both.view, d_expert, d_expert}};
    Linear l = linear(n * 128, n);
    l.begin(x.data(), n, k, {&product_of, 1});
    l.each_row(n, [&](int64_t t) { l.prepare_row(t); });
    l.run({&product_of, 1});
    const std::vector<float> all = product(both.view, x, n, bits);
    std::vector<float> want = gated(all, 2 * d_expert, all, 2 * d_expert, d_expert, d_expert, n);
    std::fill(want.begin(), want.begin() + first * d_expert,
              -1.0f);  // others' rows are not touched
    std::fill(want.begin() + (first + n_here) * d_expert, want.end(), -1.0f);
    EXPECT_EQ(y, want) << d_expert;
  }
}

TEST_P(LinearProducts, RowsAreMadeBeforeTheyAreRead) {
  const auto [code, bits] = GetParam();
  for (const int64_t n : kTokens) {
    const int64_t k = 704;
    const RandomMatrix first(code, 33, k, 6), second(Code::kBF16, 40, k, 7);
    const std::vector<float> x = random_floats(static_cast<size_t>(n * k), 8);
    std::vector<float> made(x.size()), y1(static_cast<size_t>(n * 33)),
        y2(static_cast<size_t>(n * 40));
    Linear l = linear(n * k, n);
    const std::vector<Row> rows(static_cast<size_t>(n), Row{});
    l.multiply(made.data(), rows, k, {{&first.view, y1.data()}, {&second.view, y2.data()}},
               [&](int64_t t) { std::copy_n(x.begin() + t * k, k, made.begin() + t * k); });
    EXPECT_EQ(y1, product(first.view, x, n, bits));
    EXPECT_EQ(y2, product(second.view, x, n, bits));
  }
}

TEST_P(LinearProducts, RepeatedRowsCountAsPrepared) {
  const auto [code, bits] = GetParam();
  const int64_t n = 4, k = 704;
  const RandomMatrix w(code, 20, k, 9);
  std::vector<float> x = random_floats(static_cast<size_t>(n * k), 10);
  std::copy_n(x.begin() + k, k, x.begin() + 3 * k);  // row 3 is row 1
  std::vector<float> y(static_cast<size_t>(n * 20));
  const Product one{&w.view, y.data()};
  Linear l = linear(n * k, n);
  l.begin(x.data(), n, k, {&one, 1});
  for (const int64_t t : {0, 1, 2}) l.prepare_row(t);
  l.repeat_row(1, 3);
  l.run({&one, 1});
  EXPECT_EQ(y, product(w.view, x, n, bits));
}

// An int8 is off by half a step at most, its second row by half of a step 254 times smaller: so are
// the outputs, beside float's own rounding.
TEST(LinearBits, TwoInt8RowsHoldSixteenBits) {
  const int64_t n = 3, k = 704;
  ThreadPool pool(2, 2);
  for (const Code code : {Code::kW8, Code::kW6, Code::kW4x, Code::kW8x}) {
    const RandomMatrix w(code, 33, k, 11);
    const std::vector<float> x = random_floats(static_cast<size_t>(n * k), 12);
    const auto error = [&](InputBits bits) {
      std::vector<float> y(static_cast<size_t>(n * 33));
      const Product one{&w.view, y.data()};
      Linear l(kernels(), pool, bits, kernels().gelu_mul, {.n_floats = n * k, .n_rows = n});
      l.begin(x.data(), n, k, {&one, 1});
      l.each_row(n, [&](int64_t t) { l.prepare_row(t); });
      l.run({&one, 1});
      const std::vector<float> want = product(w.view, x, n, InputBits::kFloat);
      double sum = 0;
      for (size_t i = 0; i < y.size(); ++i) sum += double{y[i] - want[i]} * (y[i] - want[i]);
      return std::sqrt(sum);
    };
    EXPECT_LT(error(InputBits::kTwice8), error(InputBits::k8) / 100) << code_name(code);
  }
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  const char* names[] = {"_int8", "_twice_int8", "_float"};
  return std::string(code_name(info.param.code)) + names[static_cast<int>(info.param.bits)];
}

INSTANTIATE_TEST_SUITE_P(
    , LinearProducts,
    testing::Values(Case{Code::kW4, InputBits::k8}, Case{Code::kW3, InputBits::k8},
                    Case{Code::kW8, InputBits::k8}, Case{Code::kW8x, InputBits::k8},
                    Case{Code::kT6, InputBits::k8}, Case{Code::kW8, InputBits::kTwice8},
                    Case{Code::kW4x, InputBits::kTwice8}, Case{Code::kW4, InputBits::kFloat},
                    Case{Code::kBF16, InputBits::k8}),
    case_name);

}  // namespace
}  // namespace lapidary
