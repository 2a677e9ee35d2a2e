// finetune: LoRA on a float base, QLoRA on a packed base. No LibTorch in this header.
//
// Base weights stay packed; a custom autograd function multiplies by the dequantized weight in
// chunks, forward and backward. Domain data are mixed with general data to an exact share of
// tokens.
//
// OUTPUT appears whole at the end: adapter_config.json and adapter_model.safetensors as PEFT writes
// them, lapidary.json (identity of the base), log.jsonl (step, loss, grad_norm, lr; tokens and
// general_tokens so far), probe.safetensors (a prompt's ids and the tuned model's last logits, to
// check readers), recipe.json. While it runs, OUTPUT/checkpoint holds what --resume needs; a
// resumed run ends with the same bytes as an uninterrupted one on the same machine and number of
// threads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "finetune/kept_plan.h"
#include "finetune/merge_aware.h"
#include "formats/events.h"

namespace lapidary {

// Training against the weights that a merge will store, in the last steps (merge_aware.h). The
// model is then a float master.
struct MergeAware {
  std::string code;   // of `merge --weights`; empty: off
  int64_t steps = 0;  // the last so many
  // What the merge does: packs the untouched master into a .lap, and rounds one adapted panel.
  std::function<void(const std::string& path, const Events& events)> pack;
  PanelRounding round;
};

struct FinetuneOptions {
  std::string model;                 // .lap
  std::string data;                  // JSONL
  std::vector<std::string> general;  // "FILE" or "FILE=WEIGHT"; several share the general tokens
  double general_share = 0.15;       // of all tokens, when there are general data
  // Conversations the base makes itself before training, one more general source; 0: none. Prompts
  // come from `replay_prompts`, or from the base as well.
  int64_t replay = 0;
  std::string replay_prompts;
  double replay_weight = 1;
  // Weights of the mean KL(base || tuned) on general tokens, and on the prompts of domain examples.
  double kl_to_base = 0, kl_prompts = 0;
  bool keep_only = false;  // general answers are not learned, only held to the base by the above
  std::string too_long = "cut";  // conversations beyond the context: cut, drop, refuse

  // The gate (finetune/gate.h).
  std::string eval_data, eval_general, gate_tasks;  // held-out files, or empty
  int64_t hold_out = 0;    // every so many-th general example is held out; 0: none
  int64_t eval_steps = 0;  // between evaluations; 0: a tenth of the run
  double gate_nats = 0.02, gate_points = 0.02;

  MergeAware merge_aware;
  std::string output;  // folder
  bool overwrite = false, resume = false;

  int rank = 16;
  double alpha = 32;
  bool rslora = false, dora = false;
  std::vector<std::string> rank_for;  // "NAME=RANK": other ranks for some targets
  bool adam_8bit = false;             // optimizer state in eight bits
  std::vector<std::string> targets;   // suffixes; empty: q,k,v,o,gate,up,down
  double learning_rate = 2e-4;
  double lora_plus_ratio = 1.0;  // learning rate of B over that of A
  double weight_decay = 0.0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double clip_norm = 1.0;             // 0: off
  std::string schedule = "constant";  // constant, linear, cosine
  int64_t warmup_steps = 0;
  double epochs = 1.0;
  int64_t steps = 0;  // > 0 wins over epochs
  int64_t context = 1024;
  int64_t batch_tokens = 2048;  // labelled and unlabelled tokens per step
  bool train_on_all = false;    // plain mode: loss on every token, not only the model's turns
  bool checkpoint_activations = false;
  int64_t kept_bytes = kKeptBytes;  // results it keeps nevertheless: kept_plan.h
  std::string precision = "auto";   // of products' operands: bf16, f32; auto: what is fastest here
  int64_t checkpoint_steps = 100;   // between checkpoints; 0: only when interrupted
  int64_t checkpoint_keep = 2;      // older ones are removed
  uint64_t seed = 0;
  int n_threads = 0;
  std::string recipe = "{}";
};

struct FinetuneReport {
  int64_t steps = 0;
  double first_loss = 0, final_loss = 0;
  int64_t trained_parameters = 0;
  double tokens_per_second = 0;
  int64_t tokens = 0, general_tokens = 0;
  std::vector<double> losses;  // of each step
  int64_t kept_step = 0;       // of the adapter that was written
  bool stopped_early = false;  // the gate failed
  bool writes = true;          // false: another process of the run wrote the output
};

// Throws kUsage (options, an output that exists, a target that matches nothing, a checkpoint of
// another run), kBadData (a line of the data, named; a model without tokenizer; a loss that is not
// finite), kNotFound, kIo, kOutOfMemory, kInterrupted (a checkpoint then stands if a step was
// done).
FinetuneReport finetune(const FinetuneOptions& options, const Events& events);

}  // namespace lapidary
