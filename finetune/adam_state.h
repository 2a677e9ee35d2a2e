// AdamW's moments in eight bits: blocks of 256 values with one float each, values as small floats.
//
// A first moment is a sign, four bits of exponent and three of mantissa below its block's largest
// value, a second moment five and three: a moment is off by at most 1/15 of itself, and small
// values beside large ones are not lost, as they would be on an even grid. (Dettmers et al. 2022
// use a table of the same kind.) Writing what was read changes nothing, so a state can be stored as
// floats.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lapidary {

class EightBitMoments {
 public:
  static constexpr int64_t kBlock = 256;

  EightBitMoments() = default;
  EightBitMoments(int64_t n, bool is_signed);

  bool empty() const { return codes_.empty(); }
  int64_t bytes() const;
  // One block [kBlock * block, ...) of at most kBlock values.
  void read(int64_t block, std::span<float> values) const;
  void write(int64_t block, std::span<const float> values);

 private:
  std::vector<uint8_t> codes_;
  std::vector<float> largest_;  // per block
  bool signed_ = false;
};

}  // namespace lapidary
