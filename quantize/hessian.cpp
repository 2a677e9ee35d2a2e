// Rows are laid out as the kernel wants them, 64 inputs of all tokens together, then every tile of
// the sums is one call.
#include "quantize/hessian.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "formats/error.h"
#include "kernels/kernels.h"

namespace lapidary {
namespace {

constexpr int64_t kTokensAtOnce = 512;  // of one pass over the sums

}  // namespace

Hessian::Hessian(int64_t n, bool rotated) : n_(n), rotated_(rotated) {
  const int64_t padded = (n + kTileK - 1) / kTileK * kTileK;
  sums_ = FloatMatrix(padded, padded);
}

double Hessian::trace() const {
  double sum = 0;
  for (int64_t i = 0; i < padded_n(); ++i) sum += sums_.row(i)[i];
  return sum;
}

bool Hessian::add(const float* x, int64_t n_rows, const float* factors, FloatMatrix& scratch,
                  ThreadPool& pool) {
  const KernelTable& table = kernels();
  const int64_t n_tiles = padded_n() / kOuterTile;
  scratch.reserve(padded_n(), kTokensAtOnce);
  std::atomic<bool> finite = true;
  for (int64_t t0 = 0; t0 < n_rows; t0 += kTokensAtOnce) {
    const int64_t n_here = std::min(kTokensAtOnce, n_rows - t0);
    const auto operand = [&](int64_t tile) {
      return scratch.data() + tile * kTokensAtOnce * kOuterTile;
    };
    pool.run(n_tiles, [&](int64_t tile) {
      float* out = operand(tile);
      const int64_t k = tile * kOuterTile, used = std::min<int64_t>(kOuterTile, n_ - k);
      float magnitudes = 0;
      for (int64_t t = 0; t < n_here; ++t) {
        const float* row = x + (t0 + t) * n_ + k;
        const float factor = factors ? factors[t0 + t] : 1.0f;
        float* to = out + t * kOuterTile;
        for (int64_t i = 0; i < used; ++i) to[i] = row[i] * factor;
        std::fill(to + used, to + kOuterTile, 0.0f);
        for (int64_t i = 0; i < used; ++i) magnitudes += std::fabs(to[i]);
      }
      if (!std::isfinite(magnitudes)) finite.store(false, std::memory_order_relaxed);
      if (rotated_) table.rotate(out, n_here, kOuterTile);
    });
    pool.run(n_tiles * (n_tiles + 1) / 2, [&](int64_t item) {
      // Items count the lower triangle row by row: row i starts at i (i + 1) / 2.
      int64_t i = static_cast<int64_t>((std::sqrt(8.0 * static_cast<double>(item) + 1) - 1) / 2);
      while (i * (i + 1) / 2 > item) --i;
      while ((i + 1) * (i + 2) / 2 <= item) ++i;
      const int64_t j = item - i * (i + 1) / 2;
      table.add_outer_products(operand(i), operand(j), n_here,
                               sums_.row(i * kOuterTile) + j * kOuterTile, sums_.width());
    });
    for (int64_t t = t0; t < t0 + n_here; ++t)
      weight_ += factors ? double{factors[t]} * factors[t] : 1.0;
  }
  return finite;
}

void Hessian::add(const Hessian& other, ThreadPool& pool) {
  shrink_towards(other, other.weight_, pool);
}

void Hessian::shrink_towards(const Hessian& all, double w, ThreadPool& pool) {
  LAPIDARY_CHECK(all.n_ == n_ && all.rotated_ == rotated_);
  if (all.weight_ == 0) return;
  const float factor = static_cast<float>(w / all.weight_);
  pool.run(padded_n(), [&](int64_t r) {
    float* to = sums_.row(r);
    const float* from = all.sums_.row(r);
    for (int64_t i = 0; i < sums_.width(); ++i) to[i] += factor * from[i];
  });
  weight_ += w;
}

}  // namespace lapidary
