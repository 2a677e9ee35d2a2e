// Generation from a prompt: prefill in chunks, then token by token until a stop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/events.h"
#include "runtime/engine.h"
#include "runtime/grammar/constraint.h"
#include "runtime/sampling.h"
#include "runtime/speculation.h"

namespace lapidary {

struct GenerateOptions {
  int64_t max_tokens = 256;
  SamplingOptions sampling;
  std::vector<int32_t> stop_ids;  // usually config.eos_ids
  const Adapter* adapter = nullptr;
  std::shared_ptr<const Constraint> constraint;  // what the answer must follow; null: anything
  DraftOptions draft;                            // changes nothing but the time it takes
  std::function<void(int32_t)> on_token;         // each new token, stop tokens included
};

struct GenerateResult {
  std::vector<int32_t> tokens;  // the stop token included
  std::string finish_reason;    // "stop" (also: the constraint is complete), "length", "context"
  double prompt_seconds = 0, decode_seconds = 0;
  int64_t n_guessed = 0, n_held = 0;  // tokens ahead, and of these those that were chosen indeed
};

// Appends `prompt` to `sequence` (which may hold earlier turns) and generates. On return the
// sequence holds the prompt and all new tokens but the last, whose logits nobody has asked for: a
// next turn begins its prompt with it. Throws kUsage for an empty prompt or one that does not fit
// the sequence, kInterrupted when the events say so, and what Matcher::mask() throws.
GenerateResult generate(Engine& engine, Sequence& sequence, std::span<const int32_t> prompt,
                        const GenerateOptions& options, const Events& events = {});

}  // namespace lapidary
