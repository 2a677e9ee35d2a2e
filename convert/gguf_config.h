// A GGUF file's keys and tensors as our description of the model.
//
// The same families as convert/ reads from config.json, and the reverse of what export writes:
// Gemma 4 (E, dense, experts), Gemma 3, Llama 3 and Qwen3. Some facts lie in the tensors: a head of
// its own, layers without V, the frequencies that RoPE leaves alone.
#pragma once

#include <string>

#include "convert/family.h"
#include "formats/gguf_set.h"
#include "formats/model_source.h"

namespace lapidary {

struct GgufConfig {
  ModelConfig config;  // validated
  const Family* family;
};
// Throws kBadData for other architectures, for keys that are missing or contradict the tensors, and
// for keys that are not known.
GgufConfig read_gguf_config(const GgufSet& file);

// The chat template, generation settings and recipe-less metadata around `config`.
ModelMetadata gguf_model_metadata(const GgufSet& file, ModelConfig config);

// The tensor of that name; -1: not there.
int64_t find_tensor(const GgufSet& file, std::string_view name);

}  // namespace lapidary
