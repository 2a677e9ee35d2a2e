// What an adapter sits on, and with which rank: names and patterns turned into PEFT's terms.
#pragma once

#include <string>
#include <vector>

#include "formats/packed_matrix.h"
#include "formats/peft.h"

namespace lapidary {

// What an adapter may sit on: a matrix of the model, or a stack of experts.
struct AdaptableMatrix {
  std::string module;                                // "model.layers.3.self_attn.q_proj"
  const MatrixView* matrix;                          // a stack's first expert
  const std::vector<MatrixView>* experts = nullptr;  // null: one matrix
};

// Sorts config.target_modules out: "experts" and names of stacks go to target_parameters,
// "all-linear" becomes the seven projections and, where there are any, the experts. Throws kUsage
// for a name that matches nothing, naming what there is.
void resolve_targets(PeftConfig& config, const std::vector<AdaptableMatrix>& matrices);

// Whether an adapter of this configuration sits there. REQUIRES: resolve_targets.
bool is_target(const PeftConfig& config, const AdaptableMatrix& matrix);

// "NAME=RANK" each: a name, the name of what it stands in ("experts", "mlp", "layers.3"), or a
// regular expression as PEFT's rank_pattern has it. Alpha is changed along, so that the scale stays
// that of the other modules. Throws kUsage.
void set_ranks(PeftConfig& config, const std::vector<std::string>& rank_for,
               const std::vector<AdaptableMatrix>& matrices);

}  // namespace lapidary
