// The engine: one call, step(batch), computes everything: prompt chunks, decode tokens, evaluation.
//
// On one instruction set a token's logits are bit-identical for any chunking, batch and thread
// count. Nothing is allocated after construction, except by new sequences. Layers that share
// another layer's K and V run only for tokens whose logits are wanted. One engine computes one step
// at a time; use one per thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/thread_pool.h"
#include "runtime/adapter.h"
#include "runtime/candidate.h"
#include "runtime/kv_cache.h"
#include "runtime/model.h"

namespace lapidary {

enum class ActivationType : uint8_t {
  kInt8,  // quantized matrices take rotated int8 activations
  k16Bit  // quantized matrices take float activations (at least 16 bits): what the weights alone
          // cost
};

struct EngineOptions {
  int n_threads = 0;  // 0: all cores
  int max_batch_tokens = 256;
  int max_logits = 64;  // rows of logits one step may return
  ActivationType activations = ActivationType::kInt8;
};

struct BatchItem {
  Sequence* sequence;                // tokens are appended to it
  std::span<const int32_t> tokens;   // at least one
  int64_t logits_from;               // logits wanted for tokens[logits_from..]; tokens.size(): none
  const Adapter* adapter = nullptr;  // null: the base model
  // [d_model], or null: the final norm's output of every token is added to it, in their order, so
  // that chunks and batches give the same sum.
  double* state_sum = nullptr;
  // [tokens.size() - logits_from, d_model], or null: takes the final norm's output of each token
  // whose logits are wanted.
  float* states = nullptr;
};

// A step that begins behind the embedding: at `layer` (0-based; n_layers: the head alone), whose
// input `hidden` is what a tap saw of the layer before it. K and V of earlier layers are those that
// lie in the sequences' memory from an earlier step over the same tokens.
struct LayerStart {
  int layer;
  const float* hidden;  // [n_tokens, d_model]
};

// Called after each layer with the residual stream: layer 0 is the scaled embedding, layer l the
// output of layer l (1-based), n_layers + 1 the final norm's output. [n_tokens, d_model]
using LayerTap = std::function<void(int layer, const float* hidden, int64_t n_tokens)>;

class Engine {
 public:
  Engine(std::shared_ptr<const Model> model, const EngineOptions& options);
  ~Engine();

  const Model& model() const;
  const EngineOptions& options() const;
  // A fresh sequence that can hold `capacity` tokens. Throws kUsage for options that do not fit the
  // model, see plan_kv().
  std::unique_ptr<Sequence> new_sequence(int64_t capacity, const KvOptions& kv) const;

  // Returns logits [n_wanted, vocab_size] in batch order, after the soft-cap; valid until the next
  // step. Throws kBadData for ids outside the vocabulary, kUsage for a full sequence or a batch
  // over max_batch_tokens / max_logits.
  std::span<const float> step(std::span<const BatchItem> batch);
  // The same from a layer on: after a change of that layer's weights the rest is computed anew.
  // REQUIRES: logits wanted of every token, sequences of unpacked K and V.
  std::span<const float> step_from(const LayerStart& start, std::span<const BatchItem> batch);
  // The same, but of each wanted row only the n_best best tokens, best first, ties by lower id:
  // [n_wanted, n_best], n_best from 1 to kMostBest. The same values as step's; faster, because no
  // row of the whole vocabulary is written.
  std::span<const Candidate> step_best(std::span<const BatchItem> batch, int n_best);
  // Appends `n_tokens` whose K and V are random: a history of any depth in a moment, for measuring
  // what is computed after it. Throws kUsage for a sequence without room for them.
  void append_random(Sequence& sequence, int64_t n_tokens);
  void set_tap(LayerTap tap);  // for tests; slows nothing when unset
  // The engine's threads, for a caller's own work between steps.
  ThreadPool& pool();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lapidary
