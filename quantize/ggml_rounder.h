// GGUF's block types under error feedback: the integers of a Q4_K or IQ4_XS file chosen by what
// they do to outputs, in llama.cpp's own layout, so that its kernels run them as any other such
// file.
//
// A block's coarse scales (K types: one or two fp16 per 256) come from plain rounding of the
// targets. A group of 16 or 32 is fitted anew when its columns are reached, with all feedback so
// far; its integer scale (and minimum) is the one among neighbours whose group, rounded with
// feedback inside, loses least.
#pragma once

#include <span>

#include "formats/ggml_type.h"
#include "quantize/block_rounder.h"

namespace lapidary {

// Types that this rounder writes: Q8_0, Q6_K, Q5_K, Q5_0, Q4_K, Q4_0, IQ4_NL, IQ4_XS, Q3_K.
bool is_block_type(GgmlType type);

class GgmlRounder : public BlockRounder {
 public:
  // `blocks`: rows [first_row, ...) of a matrix of k inputs, row after row, to be filled.
  // REQUIRES: is_block_type(type), k a multiple of its block.
  GgmlRounder(GgmlType type, int64_t k, int64_t first_row, std::span<uint8_t> blocks);

  int block_k() const override;
  void round(const StripBlock& block) override;

 private:
  GgmlType type_;
  int64_t k_, first_row_;
  std::span<uint8_t> blocks_;
};

}  // namespace lapidary
