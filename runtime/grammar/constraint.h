// Constrained output: which tokens may come next, so that the answer follows a rule.
//
//   auto vocabulary = std::make_shared<grammar::Vocabulary>(tokenizer);     // once per model
//   auto constraint = Constraint::compile(Rule::schema(json), vocabulary, stop_ids);
//   Matcher matcher(constraint);                                            // one per request
//   while (!matcher.is_finished()) matcher.accept(choose(logits, matcher.mask()));
//
// There are no dead ends: in every state that can be reached some token leads on or the text may
// end. What a schema may say is in docs/constrained.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/grammar/rule.h"

namespace lapidary {

namespace grammar {
class Vocabulary;
class Masker;
using Mask = std::vector<uint64_t>;
}  // namespace grammar

struct ConstraintLimits {
  uint32_t max_depth = 128;             // stack of the automaton, about twice the nesting of JSON
  size_t max_state_bytes = 256u << 20;  // states of one table; new matchers start a new one at half
  size_t max_mask_bytes = 64u << 20;    // masks kept; the least recently used go
};

// Immutable to its users; states and masks found by one matcher serve the others. Thread-safe.
class Constraint {
 public:
  // `stop_ids` may come where the text may end. Throws kUsage naming the keyword or construct that
  // is not supported, kBadData for malformed JSON or a rule that no text satisfies, kOutOfMemory
  // for one that is too large.
  static std::shared_ptr<const Constraint> compile(
      const Rule& rule, std::shared_ptr<const grammar::Vocabulary> vocabulary,
      std::vector<int32_t> stop_ids, const ConstraintLimits& limits = {});
  ~Constraint();
  size_t bytes() const;  // of network, states and masks
  size_t n_nodes() const;

 private:
  friend class Matcher;
  struct State;
  struct Tables;
  explicit Constraint(std::unique_ptr<State> state);
  std::shared_ptr<Tables> tables() const;
  std::unique_ptr<State> state_;
};

// One answer on its way. Movable; one thread at a time.
class Matcher {
 public:
  explicit Matcher(std::shared_ptr<const Constraint> constraint);

  // Bit id % 64 of word id / 64 is set: that token may come next. [ceil(vocab_size / 64)], valid
  // until the next call of a member. All zero when finished. Throws kOutOfMemory when the states
  // outgrow their limit.
  std::span<const uint64_t> mask();
  // Goes on by `token`; false, and nothing changed, when it may not come.
  bool accept(int32_t token);
  // A stop token was accepted, or nothing but the end is possible.
  bool is_finished() const;
  bool may_end() const;  // the text so far is complete
  // Takes back the last `n` tokens. REQUIRES: that many were accepted.
  void rollback(size_t n);
  size_t n_tokens() const { return path_.size() - 1; }

  // The longest run of bytes that is the only way on; at most 1024.
  std::string forced_bytes();
  // Tokens for it, each the longest that fits, without the last one, which might go on further than
  // what is forced.
  std::vector<int32_t> forced_tokens();

 private:
  std::shared_ptr<const Constraint> constraint_;
  std::shared_ptr<Constraint::Tables> tables_;
  std::shared_ptr<const grammar::Mask> mask_;
  std::vector<uint32_t> path_;  // states, from the start
};

}  // namespace lapidary
