// Weights that lie on a lattice already: models trained with quantization in the loop, and models
// made from Q4_0 or Q8_0 files. Every 32 of a row are small integers times one 16-bit scale, and
// can be stored as what they are.
//
// Masters are often bf16, so a weight is accepted when it is integer * scale or that product
// rounded to bf16: then the integer and the scale are what was trained, and the bf16 weight is
// their image. The scale is searched among the 16-bit floats whose multiples reach the block's
// largest weight (the largest is some level).
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "formats/events.h"
#include "formats/model_source.h"
#include "quantize/quantize.h"

namespace lapidary {

// Codes with a scale per 32, which exist to hold such weights: w4x and w8x.
bool imports_lattices(Code code);

struct LatticeBlock {
  uint16_t scale = 0;                    // fp16
  std::array<int8_t, kGroupK> levels{};  // of the code, one per weight
};

// The integers and the scale of at most 32 weights, as `code` (w4x or w8x) stores them; nothing
// when they lie on no lattice. `stored` is the code the weights come in: bf16 allows products
// rounded to bf16.
std::optional<LatticeBlock> fit_lattice(Code code, Code stored, std::span<const float> x);

// The smallest of w4x and w8x that holds every weight of the tensor; nothing for other tensors,
// and for those of zeros only. Ends at the first block that fits neither.
std::optional<Code> lattice_code(const ModelSource& source, size_t tensor);

struct LatticeFinding {
  std::string tensor;
  Code code;                   // that holds it exactly
  uint64_t bytes = 0;          // with it
  uint64_t planned_bytes = 0;  // with the code planned otherwise
  bool stored() const { return bytes <= planned_bytes; }
};

// All tensors that lie on lattices, that would be packed otherwise, and that no pattern names.
// Those that cost no more bytes exactly than in the planned code should be stored so: a finding's
// tensor and code go in front of QuantizeOptions::keep.
std::vector<LatticeFinding> find_lattices(const ModelSource& source, const QuantizeOptions& options,
                                          const Events& events);

}  // namespace lapidary
