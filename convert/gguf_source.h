// A GGUF model file as a source of weights.
//
// F32, F16 and BF16 arrive with their bits; Q8_0 and Q4_0 as w8x and w4x with their integers and
// scales; every other type is dequantized to bf16, and the provenance says so. Vectors and routers,
// which GGUF keeps as float32, become bf16 again where that holds every value.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "convert/lattice_source.h"

namespace lapidary {

class GgufSource : public LatticeSource {
 public:
  // Any part of a split model. Throws kNotFound, kBadData naming key or tensor.
  static std::unique_ptr<GgufSource> open(const std::string& path);
};

}  // namespace lapidary
