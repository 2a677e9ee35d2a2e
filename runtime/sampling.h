// Choosing the next token from logits: penalties, temperature, top-k, top-p, min-p, seed.
//
// Order as in llama.cpp and transformers: penalties on logits, temperature, top-k, top-p, min-p,
// draw. The random generator is ours and portable: the same seed gives the same tokens everywhere.
// repetition_penalty looks at prompt and answer (transformers), presence and frequency at the
// answer only (as servers with OpenAI's interface do).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/candidate.h"

namespace lapidary {

struct SamplingOptions {
  bool greedy = false;       // argmax; the lowest id wins ties
  float temperature = 1.0f;  // 0 means greedy
  int top_k = 0;             // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;  // divides positive, multiplies negative logits of seen tokens
  float presence_penalty = 0.0f;    // subtracted once
  float frequency_penalty = 0.0f;   // subtracted per occurrence
  uint64_t seed = 0;
};
// Throws kUsage naming the field that is out of range.
void validate(const SamplingOptions& options);
// Defaults from a model's generation_config JSON (do_sample, temperature, top_k, top_p, ...).
SamplingOptions sampling_from_generation_config(std::string_view json);

class Sampler {
 public:
  Sampler(const SamplingOptions& options, int64_t vocab_size);
  // Does not record. `mask`: only ids whose bit (id % 64 of word id / 64) is set count, the others
  // as if their logits were minus infinity; empty: all. REQUIRES: some bit is set.
  int32_t sample(std::span<const float> logits, std::span<const uint64_t> mask = {});
  // How many best tokens are all that the options look at; 0: they look at every logit, or at more
  // than kMostBest.
  int n_best() const;
  // The same choice from the best tokens, in order. REQUIRES: n_best() of them, or fewer where the
  // rest have no logit.
  int32_t sample(std::span<const Candidate> best);
  void record(int32_t token);                           // a new token: counts for all penalties
  void record_prompt(std::span<const int32_t> tokens);  // count for repetition_penalty only

 private:
  float penalized(float logit, int32_t id) const;
  void consider(float logit, int32_t id, Candidate& best);
  void order_best(size_t count);
  void cut_to_top_p(float best);
  int32_t draw(float best);

  SamplingOptions options_;
  uint64_t rng_[2];
  std::vector<int32_t> counts_;
  std::vector<uint8_t> in_prompt_;
  std::vector<Candidate> candidates_;
};

}  // namespace lapidary
