// What verification needs of a model: logits over windows and greedy answers. Two scorers are
// compared; this folder knows neither quantize nor finetune.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine.h"

namespace lapidary {

// One prompt to be continued greedily until a stop token or `max_tokens` new tokens.
struct GreedyRequest {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_tokens = 0;
};

class Scorer {
 public:
  virtual ~Scorer() = default;
  virtual const Tokenizer& tokenizer() const = 0;
  virtual int64_t vocab_size() const = 0;
  // Forgets the present sequence; the next tokens start at position 0.
  virtual void begin(int64_t capacity) = 0;
  // Appends tokens (at most max_chunk()) and returns logits [n, vocab] of the last `n` of them;
  // valid until the next call.
  virtual std::span<const float> append(std::span<const int32_t> tokens, int64_t n) = 0;
  virtual int64_t max_chunk() const = 0;
  // Same weights and same options: then every measure must be exactly equal.
  virtual std::string identity() const = 0;
  virtual const ModelMetadata& metadata() const = 0;

  // Answers without the stop token, in the order of the requests; `done` is called after each
  // answer with the number finished. A scorer that can batch overrides this; answers must not
  // change.
  virtual std::vector<std::vector<int32_t>> answer_all(std::span<const GreedyRequest> requests,
                                                       std::span<const int32_t> stop_ids,
                                                       const std::function<void(size_t)>& done);
};

// The token with the largest logit; the lowest id wins ties.
int32_t greedy_token(std::span<const float> logits);

struct EngineScorerOptions {
  EngineOptions engine;
  std::optional<KvOptions> kv;  // unset: the file's choice, else bf16
  std::string adapter_folder;   // empty: none
};
std::unique_ptr<Scorer> make_engine_scorer(const std::string& model_path,
                                           const EngineScorerOptions& options);

}  // namespace lapidary
