// An assistant at work: Gemma 4's drafters, which guess from the target's own memory.
//
// A guess takes the target's embedding of the newest token and a state as wide as the target, runs
// a few small layers whose queries read the target's K and V, and gives the likeliest next token
// and the next state. The first state is the target's final one of the token before. All guesses of
// a run stand at one position, the newest token's, because nothing enters the target's memory on
// the way. Source: transformers' Gemma4AssistantForCausalLM and its candidate generator.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/drafter.h"
#include "runtime/forward.h"

namespace lapidary {

class Assistant {
 public:
  // Throws as Model::load_assistant(). The engine's model, threads and activations are used; it
  // must outlive this, and its steps and the guesses take turns.
  static std::unique_ptr<Assistant> load(const std::string& path, Engine& target);
  Assistant(std::shared_ptr<const Model> model, Engine& target);

  const Model& model() const { return *model_; }

  // The token that may follow `token`, which is the first one behind those of a run of guesses that
  // began at the end of `sequence`, which is not empty. `state` [target_width] becomes the state to
  // go on with.
  int32_t guess(Sequence& sequence, int32_t token, std::span<float> state);
  // [vocab_size], of the last guess; tokens outside of the chosen clusters have the least of the
  // others' - 1.
  std::vector<float> logits();

 private:
  void head(std::span<float> state);
  void choose_tokens();

  std::shared_ptr<const Model> model_;
  const Model& target_;
  Forward forward_;
  Linear linear_;
  AlignedBuffer<float> input_;       // [2 target_width]: the token's embedding, the state
  AlignedBuffer<float> scores_;      // [n_centroids]
  std::vector<Candidate> clusters_;  // [n_centroids_used], best first
  std::vector<int32_t> tokens_;      // of these clusters
  std::vector<uint8_t> is_wanted_;   // per panel of the head: a token of theirs lies there
  std::vector<int64_t> panels_;      // those
  std::vector<Candidate> best_;      // one
};

// One for each answer; all share the assistant.
class AssistantDrafter final : public Drafter {
 public:
  explicit AssistantDrafter(Assistant& assistant) : assistant_(assistant) {}
  bool wants_state() const override { return true; }
  void guess(const DraftContext& context, int64_t most, std::vector<int32_t>& draft) override;

 private:
  Assistant& assistant_;
  std::vector<float> state_;
};

}  // namespace lapidary
