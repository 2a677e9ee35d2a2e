// H = sum over tokens of x^T x: how much an error of a layer's weights changes its outputs.
//
// For an error E of a matrix [m, n], sum over tokens |E x|^2 = tr(E H E^T); the factor 2 of the
// true second derivative changes nothing. Kept in the basis that the weights are stored in: rotated
// inputs for rotated matrices. Only tiles of 64 x 64 on and below the diagonal are filled. Sums are
// float32 over tokens in their order, tile by tile, so that they do not depend on the number of
// threads.
#pragma once

#include <cstdint>

#include "kernels/thread_pool.h"
#include "quantize/float_matrix.h"

namespace lapidary {

class Hessian {
 public:
  Hessian() = default;
  // Of inputs [n]. Zero at first.
  Hessian(int64_t n, bool rotated);

  int64_t n() const { return n_; }
  int64_t padded_n() const { return sums_.rows(); }  // a multiple of 64
  bool rotated() const { return rotated_; }
  double weight() const { return weight_; }  // tokens seen, each as heavy as its factor squared
  double trace() const;
  // [padded_n, padded_n], row-major.
  FloatMatrix& sums() { return sums_; }
  const FloatMatrix& sums() const { return sums_; }

  // Adds rows x [n_rows, n], row t times factors[t] where factors are given. `scratch` is grown to
  // [padded_n, 512]. False when a row holds NaN or infinity; the sums are spoilt then.
  bool add(const float* x, int64_t n_rows, const float* factors, FloatMatrix& scratch,
           ThreadPool& pool);
  // Sums of the same inputs over other tokens.
  void add(const Hessian& other, ThreadPool& pool);
  // this = (this + w * all / all.weight()) for an expert that saw few tokens: its own sums count as
  // they are, the layer's as those of `w` tokens. REQUIRES: the same n and basis.
  void shrink_towards(const Hessian& all, double w, ThreadPool& pool);

 private:
  int64_t n_ = 0;
  bool rotated_ = false;
  double weight_ = 0;
  FloatMatrix sums_;
};

}  // namespace lapidary
