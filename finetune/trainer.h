// Training steps on explicit batches: what finetune() drives, and what tests drive directly to
// reproduce the curves of other tools. Knows nothing of files, formats or templates. No LibTorch
// here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "finetune/block_product.h"
#include "finetune/kept_plan.h"
#include "finetune/merge_aware.h"
#include "finetune/process_group.h"
#include "finetune/token_row.h"
#include "formats/peft.h"
#include "runtime/model.h"

namespace lapidary {

// "bf16", "f32", or "auto": native_precision(). Throws kUsage.
Precision parse_precision(const std::string& name);

struct TrainerOptions {
  double lora_plus_ratio = 1.0;  // learning rate of B over that of A
  double weight_decay = 0.0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double clip_norm = 0.0;  // 0: off
  bool adam_8bit = false;  // moments in eight bits: adam_state.h
  bool checkpoint_activations = false;
  int64_t kept_bytes = kKeptBytes;            // results it keeps nevertheless: kept_plan.h
  Precision precision = Precision::kFloat32;  // of the operands of products; sums are float32
  int n_threads = 0;                          // 0: all cores
  // Weights of the mean KL(base || tuned) over the tokens of examples that keep all of the base,
  // and over the prompts of those that keep these.
  double kl_to_base = 0.0, kl_prompts = 0.0;
  // Merge-aware: the forward pass sees each adapted matrix as a merge would store it, the gradient
  // goes straight through the rounding. The model is then the packed one. Empty: off.
  PanelRounding merge_rounding;
  // Of several processes each computes every n-th row of a step. Null: alone. Not owned.
  ProcessGroup* group = nullptr;
};

struct StepResult {
  double loss = 0;           // mean over the learned tokens of all rows
  double gradient_norm = 0;  // of all adapter tensors, before clipping
  // Mean KL(base || tuned) over the tokens of examples that keep all, in nats; 0 when not asked.
  double kl = 0;
  int64_t n_learned = 0;
};

// Sums over one row, in nats: -log p over its learned tokens, KL(base || tuned) over all tokens of
// its examples that keep all.
struct RowMeasure {
  double nll = 0, kl = 0;
  int64_t n_learned = 0, n_kept = 0;
};

// One tensor of a trainer's state: parameters and the optimizer's moments.
struct NamedFloats {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};
struct TrainerState {
  int64_t steps_done = 0;
  std::vector<NamedFloats> tensors;
};

class Trainer {
 public:
  // `initial` says which matrices are adapted and where they start. Throws kBadData when it does
  // not fit. LibTorch's own threads are switched off for the whole process.
  Trainer(std::shared_ptr<const Model> model, const PeftAdapter& initial,
          const TrainerOptions& options);
  // A new adapter on `config.target_modules`, with ranks of their own for what `rank_for` names:
  // targets.h. Throws kUsage.
  static PeftAdapter initial_adapter(const Model& model, const PeftConfig& config, uint64_t seed,
                                     const std::vector<std::string>& rank_for = {});
  ~Trainer();

  // One optimizer step over all rows; each row is one forward and backward pass. Gradients are
  // normalised by the learned tokens of all rows together. Throws kBadData when nothing is to be
  // learned, or when the loss or a gradient is not finite (the adapter then keeps its last values).
  StepResult step(std::span<const TokenRow> rows, double learning_rate);
  // Mean loss without a step.
  double evaluate(std::span<const TokenRow> rows);
  // The same row by row, and how far each kept example went from the base.
  std::vector<RowMeasure> measure(std::span<const TokenRow> rows);
  // Logits of one sequence under the present adapter, [ids.size(), vocab]; always in float32.
  std::vector<float> logits(std::span<const int32_t> ids);
  // States as Engine's tap gives them: f(layer, values), values [n_tokens, d_model].
  void tap_layers(std::span<const int32_t> ids,
                  const std::function<void(int layer, std::span<const float> hidden)>& f);

  PeftAdapter adapter() const;
  int64_t trained_parameters() const;
  TrainerState state() const;
  // Throws kBadData when names or shapes differ from this trainer's.
  void restore(const TrainerState& state);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lapidary
