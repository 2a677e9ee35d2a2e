// Where each of our tensors goes in a GGUF file: name, and what must be done to its rows.
//
// Names: llama.cpp's src/llama-arch.cpp. Ours are Hugging Face's.
#pragma once

#include <cstdint>
#include <string>

#include "formats/model_source.h"

namespace lapidary {

struct GgufPlace {
  std::string name;
  // A weight matrix, in any type; everything else is stored as float32.
  bool matrix = false;
  // Norm weights of families that multiply by 1 + w: GGUF has the sum.
  bool add_one = false;
  // llama.cpp rotates neighbours (2i, 2i + 1) in its "llama" models where Hugging Face rotates
  // halves (i, i + d/2), so q and k rows of each head are interleaved. 0: rows stay in order.
  int interleaved_head = 0;
};

// Throws kBadData for a tensor that the family does not have.
GgufPlace gguf_place(const ModelConfig& config, const std::string& name);

// Row of our tensor that stands at `row` of GGUF's, and the other way round.
int64_t source_row(const GgufPlace& place, int64_t row);
int64_t gguf_row(const GgufPlace& place, int64_t row);

}  // namespace lapidary
