// Makes broken inputs out of good ones, the same ones on every machine for the same seed.
//
// g++ has no libFuzzer, so this stands in for it: no coverage feedback, but mutations that hurt
// parsers most: flipped bits, cut and doubled ranges, and extreme numbers, in binary and in text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lapidary {

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : state_(seed) {}

  // `input` after one to six mutations. `other` is a second good input that ranges may come from.
  std::vector<uint8_t> mutate(std::span<const uint8_t> input, std::span<const uint8_t> other);
  // A number below `bound`; 0 when bound is 0.
  uint64_t below(uint64_t bound);

 private:
  using Bytes = std::vector<uint8_t>;
  void flip_bits(Bytes& data);
  void set_bytes(Bytes& data);
  void truncate(Bytes& data);
  void remove_range(Bytes& data);
  void double_range(Bytes& data);
  void take_range_of(Bytes& data, std::span<const uint8_t> other);
  void overwrite_integer(Bytes& data);
  void replace_number(Bytes& data);
  std::span<uint8_t> any_range(Bytes& data);

  uint64_t state_;
};

}  // namespace lapidary
