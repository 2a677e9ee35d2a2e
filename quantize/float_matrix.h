// A large matrix of floats that starts as zeros: Hessians, their factors, strips of weights.
//
// Anonymous memory, in large pages where the system gives them: a column of a 20,000-wide matrix
// touches 20,000 pages otherwise. Pages never written take no memory. Movable.
#pragma once

#include <cstdint>
#include <memory>

namespace lapidary {

class FloatMatrix {
 public:
  FloatMatrix() = default;
  // Throws kOutOfMemory when the system refuses.
  FloatMatrix(int64_t rows, int64_t width);

  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  float* row(int64_t r) { return data_.get() + r * width_; }
  const float* row(int64_t r) const { return data_.get() + r * width_; }
  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }
  // At least this large afterwards; what it held is lost when it grows.
  void reserve(int64_t rows, int64_t width);

 private:
  struct Unmap {
    uint64_t bytes;
    void operator()(float* p) const;
  };
  std::unique_ptr<float, Unmap> data_;
  int64_t rows_ = 0, width_ = 0;
};

}  // namespace lapidary
