// G in runs of rows, each computed, squared and forgotten by one thread.
#include "finetune/gradient_squares.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace lapidary {
namespace {

constexpr int64_t kGradientValues = int64_t{1} << 20;  // of G that exist at a time, per thread

}  // namespace

void add_squares(FrozenWeights& weights, const at::Tensor& dy_in, const at::Tensor& x_in,
                 const RowGradients& lookups, int64_t first_row, GradientSquares& squares) {
  const at::Tensor dy = dy_in.defined() ? dy_in.contiguous() : dy_in;
  const at::Tensor x = x_in.defined() ? x_in.contiguous() : x_in;
  const int64_t k = static_cast<int64_t>(squares.columns.size());
  const int64_t n_rows =
      dy.defined() ? dy.size(1) : static_cast<int64_t>(squares.rows.size()) - first_row;
  const int64_t run = std::max<int64_t>(1, kGradientValues / k);
  const int64_t n_runs = (n_rows + run - 1) / run;
  std::vector<std::vector<double>> columns(static_cast<size_t>(n_runs));
  weights.parallel(n_runs, [&](int64_t i) {
    const int64_t first = i * run, count = std::min(run, n_rows - first);
    const at::Tensor g = at::zeros({count, k}, at::kFloat);
    auto* values = g.data_ptr<float>();
    if (dy.defined())
      block_product(weights.precision(), count, k, dy.size(0),
                    {dy.data_ptr<float>() + first, dy.size(1), /*transposed=*/true},
                    {x.data_ptr<float>(), k}, values, k, /*add=*/false);
    bool any = dy.defined();
    for (size_t t = 0; t < lookups.rows.size(); ++t) {
      const int64_t row = lookups.rows[t] - first;
      if (row < 0 || row >= count) continue;
      any = true;
      const float* from = lookups.gradients.data_ptr<float>() + static_cast<int64_t>(t) * k;
      for (int64_t j = 0; j < k; ++j) values[row * k + j] += from[j];
    }
    if (!any) return;
    std::vector<double>& sums = columns[static_cast<size_t>(i)];
    sums.assign(static_cast<size_t>(k), 0.0);
    for (int64_t r = 0; r < count; ++r) {
      double sum = 0;
      for (int64_t j = 0; j < k; ++j) {
        const double square = static_cast<double>(values[r * k + j]) * values[r * k + j];
        sum += square;
        sums[static_cast<size_t>(j)] += square;
      }
      squares.rows[static_cast<size_t>(first_row + first + r)] += sum;
    }
    release_blocks(weights.precision());
  });
  for (const std::vector<double>& sums : columns)
    for (size_t j = 0; j < sums.size(); ++j) squares.columns[j] += sums[j];
}

}  // namespace lapidary
