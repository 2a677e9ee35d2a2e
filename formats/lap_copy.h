// A float model source written as a .lap, bit by bit as it is: what `convert` and `merge` end with.
//
// Streams in file order through three buffers of a few megabytes. It changes no value; the
// quantizer has its own loop.
#pragma once

#include <span>
#include <string>

#include "formats/events.h"
#include "formats/lap.h"

namespace lapidary {

inline constexpr std::string_view kPleTensor = "model.embed_tokens_per_layer.weight";

// The entry of a float tensor in a .lap: per-layer embeddings as a row table, all else plain.
LapTensor plain_lap_tensor(const SourceTensor& tensor, const ModelConfig& config);

struct LapCopyResult {
  uint64_t file_bytes = 0;
  std::string content_hash;
};
// `metadata.provenance` must be what to_json(Provenance) writes. With `is_source`, its empty
// source_hash becomes the hash of what was written. REQUIRES: all tensors of `source` are floats.
LapCopyResult copy_to_lap(const ModelSource& source, const std::string& output,
                          const ModelMetadata& metadata, const LapTokenizer& tokenizer,
                          bool is_source, const Events& events);
// The end of such a copy, for who writes the tensors otherwise. Throws kIo.
LapCopyResult commit_copy(LapWriter& writer, const ModelMetadata& metadata, bool is_source);

}  // namespace lapidary
