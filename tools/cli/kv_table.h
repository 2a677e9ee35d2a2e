// What a KV cache would take, for people and as JSON: `inspect --context N --kv CODE`.
#pragma once

#include <string>

#include "formats/model_source.h"

namespace lapidary {

struct KvOptions;

// The description in a .lap file, a Hugging Face folder or a config.json; weights are not needed.
// Throws kNotFound or kBadData.
ModelMetadata read_description(const std::string& path);

// Bytes per token, per kind of layer and in total, for `context` tokens of one sequence. Throws as
// plan_kv().
std::string kv_table_json(const ModelConfig& config, const KvOptions& options, int64_t context);
std::string kv_table_text(const ModelConfig& config, const KvOptions& options, int64_t context);

}  // namespace lapidary
