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
#include <string>
#include <vector>

#include "formats/events.h"

namespace lapidary {

struct FinetuneOptions {
  std::string model;            // .lap
  std::string data;             // JSONL
  std::string general;          // JSONL or empty
  double general_share = 0.15;  // of all tokens, when `general` is given
  std::string output;           // folder
  bool overwrite = false, resume = false;

  int rank = 16;
  double alpha = 32;
  bool rslora = false, dora = false;
  std::vector<std::string> targets;  // suffixes; empty: q,k,v,o,gate,up,down
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
  int64_t checkpoint_steps = 100;  // between checkpoints; 0: only when interrupted
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
};

// Throws kUsage (options, an output that exists, a target that matches nothing, a checkpoint of
// another run), kBadData (a line of the data, named; a model without tokenizer; a loss that is not
// finite), kNotFound, kIo, kOutOfMemory, kInterrupted (a checkpoint then stands if a step was
// done).
FinetuneReport finetune(const FinetuneOptions& options, const Events& events);

}  // namespace lapidary
