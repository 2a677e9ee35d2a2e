// A source of weights that are integers under one 16-bit scale per 32 inputs.
#pragma once

#include <cstdint>
#include <span>

#include "formats/model_source.h"

namespace lapidary {

class LatticeSource : public ModelSource {
 public:
  // Rows [first, first + count) of a w4x or w8x tensor: indices [count, k] into levels(code) and
  // fp16 scales [count, k / 32]. Throws kBadData for scales that are not finite.
  virtual void read_integers(size_t index, int64_t first, int64_t count, std::span<uint8_t> indices,
                             std::span<uint16_t> scales) const = 0;
};

}  // namespace lapidary
