// Prefill in chunks, then a token at a time, or a run of guesses that hold.
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
  // From one of the rows that the last step wanted. REQUIRES: the constraint is not complete.
  int32_t choose(int64_t row) {
    if (wants_best()) {
      const auto n = static_cast<size_t>(sampler_.n_best());
      return sampler_.sample(best_.subspan(static_cast<size_t>(row) * n, n));
    }
    const auto vocab = static_cast<size_t>(engine_.model().config().vocab_size);
    const auto logits = logits_.subspan(static_cast<size_t>(row) * vocab, vocab);
    if (!matcher_) return sampler_.sample(logits);
    const int32_t token = sampler_.sample(logits, matcher_->mask());
    LAPIDARY_CHECK(matcher_->accept(token));
    return token;
  }
  bool is_complete() const { return matcher_ && matcher_->is_finished(); }
  Matcher* matcher() { return matcher_ ? &*matcher_ : nullptr; }

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
             const Adapter* adapter, float* state, const Events& events) {
  for (size_t done = 0; done < prompt.size();) {
    events.progress({"tokens", done, prompt.size(), 0, "prompt"});
    const auto tokens = prompt.subspan(done, std::min(chunk, prompt.size() - done));
    done += tokens.size();
    const int64_t n = static_cast<int64_t>(tokens.size());
    chooser.step({&sequence, tokens, done == prompt.size() ? n - 1 : n, adapter, nullptr, state});
  }
}

bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
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

  const ModelConfig& config = engine.model().config();
  Sampler sampler(options.sampling, config.vocab_size);
  sampler.record_prompt(prompt);
  GenerateResult result;
  auto start = std::chrono::steady_clock::now();
  Chooser chooser(engine, sampler, options.constraint);
  Speculation speculation(options.draft, config.d_model);
  prefill(
      chooser,
      static_cast<size_t>(std::min(engine.options().max_batch_tokens, sequence.max_batch_tokens())),
      sequence, prompt, options.adapter, speculation.states(), events);
  result.prompt_seconds = seconds_since(start);

  start = std::chrono::steady_clock::now();
  result.finish_reason = "length";
  if (chooser.is_complete()) {  // only the empty answer follows the constraint
    result.finish_reason = "stop";
    return result;
  }
  std::vector<int32_t> text(prompt.begin(), prompt.end());  // with the answer
  std::vector<int32_t> fed;                                 // a token and the guesses behind it
  while (true) {
    // Tokens from the rows of the last step, as long as the one before is what was guessed.
    const int64_t n_guessed = std::max<int64_t>(0, std::ssize(fed) - 1);
    int64_t n_held = 0;
    bool is_over = std::ssize(result.tokens) == options.max_tokens;
    while (!is_over) {
      const int32_t token = chooser.choose(n_held);
      sampler.record(token);
      result.tokens.push_back(token);
      text.push_back(token);
      if (options.on_token) options.on_token(token);
      const bool stops = contains(options.stop_ids, token) || chooser.is_complete();
      if (stops) result.finish_reason = "stop";
      is_over = stops || std::ssize(result.tokens) == options.max_tokens;
      if (is_over || n_held == n_guessed || token != fed[static_cast<size_t>(n_held + 1)]) break;
      ++n_held;
    }
    if (n_held < n_guessed) sequence.truncate(sequence.length() - (n_guessed - n_held));
    speculation.record(n_guessed, n_held);
    result.n_guessed += n_guessed;
    result.n_held += n_held;
    if (is_over) break;
    if (sequence.length() == sequence.capacity()) {
      result.finish_reason = "context";
      break;
    }
    events.poll();
    fed.assign(1, text.back());
    const int64_t most =
        std::min({options.max_tokens - std::ssize(result.tokens) - 1,
                  sequence.capacity() - sequence.length() - 1,
                  int64_t{std::min(engine.options().max_logits, sequence.max_batch_tokens())} - 1});
    speculation.guess(text, sequence, most, chooser.matcher(), fed);
    chooser.step({&sequence, fed, 0, options.adapter, nullptr, speculation.states()});
  }
  result.decode_seconds = seconds_since(start);
  return result;
}

}  // namespace lapidary
