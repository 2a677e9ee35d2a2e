// What a GGUF file says about a model beside its weights: the architecture's numbers, sampling
// defaults, chat template.
#pragma once

#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/model_source.h"

namespace lapidary {

// Throws kBadData when the model has something that llama.cpp's architecture of the same name
// cannot express, naming it. Keys: llama.cpp's src/llama-arch.cpp.
std::vector<GgufPair> gguf_metadata(const ModelMetadata& metadata, const std::string& model_name,
                                    GgmlType main_type);

// Divisors of the rotation frequencies of global layers, for the tensor "rope_freqs.weight"; empty
// when there are none. Pairs that do not rotate have 1e30.
std::vector<float> gguf_rope_divisors(const ModelConfig& config);

}  // namespace lapidary
