// How much memory a training run will need, part by part, from shapes alone: nothing is loaded.
//
// The parts are what stands at the same time at the highest point of a step: weights, adapters,
// gradients and optimizer state always; then either the head with one chunk of logits, or the
// backward pass of the widest layer beside the states kept between layers.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "finetune/kept_plan.h"
#include "finetune/targets.h"
#include "formats/model_config.h"
#include "formats/peft.h"

namespace lapidary {

struct MemoryPlanOptions {
  PeftConfig peft;                    // targets as a user names them
  std::vector<std::string> rank_for;  // as set_ranks() takes them
  int64_t tokens = 2048;              // of the longest row
  bool checkpoint_activations = true;
  int64_t kept_bytes = kKeptBytes;  // results kept nevertheless: kept_plan.h
  bool adam_8bit = false;
  bool bfloat16 = true;  // precision of products' operands, and of states between layers
  int n_threads = 2;
};

struct MemoryPart {
  std::string name;
  int64_t bytes = 0;
};
struct MemoryPlan {
  std::vector<MemoryPart> parts;
  int64_t trained_parameters = 0;
  int64_t total() const;
};

// Everything an adapter may sit on in a model of this shape; sizes without weights.
struct AdaptableShapes {
  std::vector<AdaptableMatrix> matrices;
  std::deque<MatrixView> views;  // what they point to, at addresses that stay
  std::deque<std::vector<MatrixView>> stacks;
};
AdaptableShapes adaptable_shapes(const ModelConfig& config);

// `base_bytes`: weights that are read from memory, the per-layer table not among them (its rows are
// read from the file). Throws kUsage for targets that do not exist.
MemoryPlan plan_memory(const ModelConfig& config, int64_t base_bytes,
                       const MemoryPlanOptions& options);

}  // namespace lapidary
