// The KV cache that a .lap asks for. `quantize --kv auto` writes it, everything that runs the model
// without a --kv of its own follows it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "formats/model_source.h"
#include "runtime/kv_options.h"

namespace lapidary {

// {"exact": [64, 256], "layers": ["off", "k8v4", ...]}: ModelMetadata::kv.
std::string kv_to_json(const ModelConfig& config, const KvOptions& options);

// Throws kBadData for text that is no such object or does not fit the model.
KvOptions kv_from_json(const ModelConfig& config, std::string_view json);

// What was asked for, else the file's choice, else bf16. Throws kBadData for a choice that does not
// fit the file's own model.
KvOptions kv_for(const std::optional<KvOptions>& asked, const ModelMetadata& metadata);

}  // namespace lapidary
