// Prefill in chunks, then one token at a time.
#include "runtime/generate.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "formats/error.h"

namespace lapidary {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Steps of one sequence that choose the next token from as few logits as the sampler looks at.
class Chooser {
 public:
  Chooser(Engine& engine, Sampler& sampler, const std::shared_ptr<const Constraint>& constraint)
      : engine_(engine), sampler_(sampler) {
    if (constraint) matcher_.emplace(constraint);
  }

  void step(const BatchItem& item) {
    if (wants_best())
      best_ = engine_.step_best({&item, 1}, sampler_.n_best());
    else
      logits_ = engine_.step({&item, 1});
  }
  // REQUIRES: the last step wanted its last token's logits, and the constraint is not complete.
  int32_t choose() {
    if (wants_best()) return sampler_.sample(best_);
    if (!matcher_) return sampler_.sample(logits_);
    const int32_t token = sampler_.sample(logits_, matcher_->mask());
    LAPIDARY_CHECK(matcher_->accept(token));
    return token;
  }
  bool is_complete() const { return matcher_ && matcher_->is_finished(); }

 private:
  // The best of all logits need not be among those that a mask lets through.
  bool wants_best() const { return !matcher_ && sampler_.n_best() > 0; }

  std::optional<Matcher> matcher_;
  Engine& engine_;
  Sampler& sampler_;
  std::span<const float> logits_;
  std::span<const Candidate> best_;
};

// Feeds the prompt; its last token's logits are wanted.
void prefill(Chooser& chooser, size_t chunk, Sequence& sequence, std::span<const int32_t> prompt,
             const Adapter* adapter, const Events& events) {
  for (size_t done = 0; done < prompt.size();) {
    events.progress({"tokens", done, prompt.size(), 0, "prompt"});
    const auto tokens = prompt.subspan(done, std::min(chunk, prompt.size() - done));
    done += tokens.size();
    const int64_t n = static_cast<int64_t>(tokens.size());
    chooser.step({&sequence, tokens, done == prompt.size() ? n - 1 : n, adapter});
  }
}

}  // namespace

GenerateResult generate(Engine& engine, Sequence& sequence, std::span<const int32_t> prompt,
                        const GenerateOptions& options, const Events& events) {
  if (prompt.empty()) fail(ErrorCode::kUsage, "the prompt has no tokens: expected at least one");
  const int64_t room = sequence.capacity() - sequence.length();
  if (static_cast<int64_t>(prompt.size()) > room)
    fail(ErrorCode::kUsage,
         "the prompt has {} tokens, the context has room for {}; use a larger one", prompt.size(),
         room);

  Sampler sampler(options.sampling, engine.model().config().vocab_size);
  sampler.record_prompt(prompt);
  GenerateResult result;
  auto start = std::chrono::steady_clock::now();
  Chooser chooser(engine, sampler, options.constraint);
  prefill(
      chooser,
      static_cast<size_t>(std::min(engine.options().max_batch_tokens, sequence.max_batch_tokens())),
      sequence, prompt, options.adapter, events);
  result.prompt_seconds = seconds_since(start);

  start = std::chrono::steady_clock::now();
  result.finish_reason = "length";
  if (chooser.is_complete()) {  // only the empty answer follows the constraint
    result.finish_reason = "stop";
    return result;
  }
  while (static_cast<int64_t>(result.tokens.size()) < options.max_tokens) {
    events.poll();
    const int32_t token = chooser.choose();
    sampler.record(token);
    result.tokens.push_back(token);
    if (options.on_token) options.on_token(token);
    if (std::find(options.stop_ids.begin(), options.stop_ids.end(), token) !=
        options.stop_ids.end()) {
      result.finish_reason = "stop";
      break;
    }
    if (chooser.is_complete()) {
      result.finish_reason = "stop";
      break;
    }
    if (static_cast<int64_t>(result.tokens.size()) == options.max_tokens) break;
    if (sequence.length() == sequence.capacity()) {
      result.finish_reason = "context";
      break;
    }
    chooser.step({&sequence, {&result.tokens.back(), 1}, 0, options.adapter});
  }
  result.decode_seconds = seconds_since(start);
  return result;
}

}  // namespace lapidary
