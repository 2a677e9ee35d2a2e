// Which code, layout and rotation every tensor of a quantized file gets.
#pragma once

#include <vector>

#include "quantize/quantize.h"

namespace lapidary {

// The matrix that is multiplied for logits.
inline const char* head_name(const ModelConfig& config) {
  return config.tied_head ? "model.embed_tokens.weight" : "lm_head.weight";
}

// One entry per tensor of `source`, in its order; `bytes` is filled. Throws kUsage when the source
// is packed already and the options do not allow that.
//   vectors, and matrices narrower than 64 inputs   stay as they are
//   router.proj, per_layer_model_projection         w8, unless a pattern says otherwise
//   per-layer embeddings                            a row table of the chosen code, not rotated
//   an embedding that is the head, too              the next finer of t3 and w3, as finer_head says
//   all other matrices                              panels of the chosen code
std::vector<LapTensor> plan_tensors(const ModelSource& source, const QuantizeOptions& options);

// Some pattern of options.keep names the tensor.
bool is_kept(const std::string& tensor, const QuantizeOptions& options);

}  // namespace lapidary
