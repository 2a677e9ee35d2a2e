// A small random generator of our own: the same seed gives the same numbers on every machine.
//
// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): one 64-bit counter and a mixing function. Good
// enough to resample clusters and to deal task items; not for secrets.
#pragma once

#include <cstdint>

namespace lapidary {

class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15u;
    uint64_t x = state_;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }
  // Uniform in [0, n). REQUIRES: 0 < n < 2^32. The bias is below n / 2^32.
  uint64_t below(uint64_t n) { return ((next() >> 32) * n) >> 32; }
  // Uniform in [low, high]. REQUIRES: low <= high, both small.
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low + 1)));
  }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }  // [0, 1)

 private:
  uint64_t state_;
};

}  // namespace lapidary
