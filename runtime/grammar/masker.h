// Token masks of automaton states, computed when a state is first visited and kept.
//
// A mask is found by walking the vocabulary's trie with the automaton, leaving out subtrees whose
// beginning is refused. Most of a wide state's tokens (inside a string) never leave the innermost
// network, so whether they pass does not depend on the stack: that part is computed once for the
// nodes on top, and for each stack only tokens that leave are looked at again. So the second string
// of an object costs microseconds, not milliseconds.
// Source of the split: Y. Dong et al., "XGrammar", arXiv 2411.15100, section 3.1.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "runtime/grammar/automaton.h"
#include "runtime/grammar/vocabulary.h"

namespace lapidary::grammar {

using Mask = std::vector<uint64_t>;  // bit id % 64 of word id / 64: the token may come next

// What of a wide state does not depend on its stack.
struct LocalMask {
  Mask mask;
  std::vector<uint32_t> exits;  // trie nodes behind which the innermost network may be left
  uint32_t need;                // Automaton::need of all states on the way
  size_t bytes() const { return mask.size() * 8 + exits.size() * 4; }
};

// Values by state, the least recently used dropped over a limit.
template <class Value>
class LeastRecentlyUsed {
 public:
  explicit LeastRecentlyUsed(size_t max_bytes) : max_bytes_(max_bytes) {}

  std::shared_ptr<const Value> find(StateId key) {
    const auto found = places_.find(key);
    if (found == places_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return found->second->value;
  }
  // The newest stays even if it alone is over the limit.
  void add(StateId key, std::shared_ptr<const Value> value, size_t bytes) {
    order_.push_front({key, std::move(value), bytes});
    places_[key] = order_.begin();
    bytes_ += bytes;
    while (bytes_ > max_bytes_ && order_.size() > 1) {
      bytes_ -= order_.back().bytes;
      places_.erase(order_.back().key);
      order_.pop_back();
    }
  }
  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    StateId key;
    std::shared_ptr<const Value> value;
    size_t bytes;
  };
  std::list<Entry> order_;
  std::unordered_map<StateId, typename std::list<Entry>::iterator> places_;
  size_t max_bytes_, bytes_ = 0;
};

class Masker {
 public:
  // Borrows all but `stop_ids`.
  Masker(const Vocabulary& vocabulary, const Network& network, const SpecialTokens& specials,
         std::vector<int32_t> stop_ids, const AutomatonLimits& limits, size_t max_mask_bytes);

  Automaton& automaton() { return automaton_; }
  const Automaton& automaton() const { return automaton_; }
  // Stop tokens pass where the text may end.
  std::shared_ptr<const Mask> mask(StateId state);
  // Where `token` leads as text; kDead when it may not come. Whether a stop token ends the text is
  // the caller's business.
  StateId step_token(StateId state, int32_t token);
  bool is_stop(int32_t token) const;
  size_t bytes() const { return automaton_.bytes() + masks_.bytes() + locals_.bytes(); }

 private:
  void walk(StateId from, uint32_t begin, uint32_t end, Mask& mask, LocalMask* local);
  std::shared_ptr<const LocalMask> local_mask(StateId opened);
  void add_group(std::span<const Configuration> group, Mask& mask);
  void add_special(StateId state, Mask& mask);

  const Vocabulary& vocabulary_;
  const SpecialTokens& specials_;
  std::vector<int32_t> stop_ids_;
  Automaton automaton_;
  LeastRecentlyUsed<Mask> masks_;
  LeastRecentlyUsed<LocalMask> locals_;
  std::vector<StateId> path_;  // states by depth
};

}  // namespace lapidary::grammar
