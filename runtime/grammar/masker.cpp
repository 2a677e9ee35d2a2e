// One depth-first walk over the flat trie; a refused byte skips its subtree.
#include "runtime/grammar/masker.h"

#include <algorithm>

namespace lapidary::grammar {
namespace {

// States with fewer next bytes than this are cheap to walk and hardly ever alike.
constexpr size_t kWideBytes = 64;

void set_bit(Mask& mask, int32_t id) {
  mask[static_cast<size_t>(id) / 64] |= uint64_t{1} << (static_cast<size_t>(id) % 64);
}

}  // namespace

Masker::Masker(const Vocabulary& vocabulary, const Network& network, const SpecialTokens& specials,
               std::vector<int32_t> stop_ids, const AutomatonLimits& limits, size_t max_mask_bytes)
    : vocabulary_(vocabulary),
      specials_(specials),
      stop_ids_(std::move(stop_ids)),
      automaton_(network, limits),
      masks_(max_mask_bytes / 2),
      locals_(max_mask_bytes / 2),
      path_(257, kDead) {}

bool Masker::is_stop(int32_t token) const {
  return std::find(stop_ids_.begin(), stop_ids_.end(), token) != stop_ids_.end();
}

StateId Masker::step_token(StateId state, int32_t token) {
  if (token < 0 || token >= vocabulary_.size()) return kDead;
  if (vocabulary_.is_special(token)) {
    const uint8_t byte = specials_.byte_of(token);
    const bool is_plain_stop = byte == SpecialTokens::kAnyOther && is_stop(token);
    return is_plain_stop ? kDead : automaton_.step(state, byte);
  }
  const std::string_view bytes = vocabulary_.bytes(token);
  if (bytes.empty()) return kDead;
  for (const char c : bytes) {
    if (static_cast<uint8_t>(c) >= SpecialTokens::kFirst) return kDead;
    state = automaton_.step(state, static_cast<uint8_t>(c));
    if (state == kDead) return kDead;
  }
  return state;
}

// Trie nodes [begin, end) are what follows `from`; their depths start right behind its own.
void Masker::walk(StateId from, uint32_t begin, uint32_t end, Mask& mask, LocalMask* local) {
  if (begin >= end) return;
  const TrieNode* nodes = vocabulary_.nodes().data();
  const int32_t* tokens = vocabulary_.tokens().data();
  path_[nodes[begin].depth - 1] = from;
  for (uint32_t i = begin; i < end;) {
    const TrieNode& node = nodes[i];
    const StateId next = automaton_.step(path_[node.depth - 1], node.byte);
    if (next == kDead) {
      i = node.end;
      continue;
    }
    path_[node.depth] = next;
    for (uint32_t t = node.first_token; t < nodes[i + 1].first_token; ++t) set_bit(mask, tokens[t]);
    if (local) {
      local->need = std::max(local->need, automaton_.need(next));
      if (automaton_.can_leave(next) && node.end > i + 1) local->exits.push_back(i);
    }
    ++i;
  }
}

std::shared_ptr<const LocalMask> Masker::local_mask(StateId opened) {
  if (auto known = locals_.find(opened)) return known;
  const auto local = std::make_shared<LocalMask>();
  local->mask.assign(vocabulary_.mask_words(), 0);
  local->need = automaton_.need(opened);
  walk(opened, 0, vocabulary_.n_nodes(), local->mask, local.get());
  locals_.add(opened, local, local->bytes());
  return local;
}

// Configurations of one stack.
void Masker::add_group(std::span<const Configuration> group, Mask& mask) {
  const StackId stack = group[0].stack;
  const StateId opened = automaton_.opened(group);
  if (opened == kDead) return;  // only the end of the text
  const std::shared_ptr<const LocalMask> local = local_mask(opened);
  if (!automaton_.fits_over(stack, local->need)) {
    // Near the depth limit the stack does matter.
    walk(automaton_.only(group), 0, vocabulary_.n_nodes(), mask, nullptr);
    return;
  }
  for (size_t i = 0; i < mask.size(); ++i) mask[i] |= local->mask[i];
  if (stack == kEmptyStack || local->exits.empty()) return;
  const StateId after = automaton_.after_return(stack);
  const auto nodes = vocabulary_.nodes();
  for (const uint32_t exit : local->exits) walk(after, exit + 1, nodes[exit].end, mask, nullptr);
}

void Masker::add_special(StateId state, Mask& mask) {
  for (const int32_t id : specials_.ids())
    if (automaton_.step(state, specials_.byte_of(id)) != kDead) set_bit(mask, id);
  if (automaton_.step(state, SpecialTokens::kAnyOther) != kDead)
    for (const int32_t id : vocabulary_.specials())
      if (specials_.byte_of(id) == SpecialTokens::kAnyOther && !is_stop(id)) set_bit(mask, id);
  if (automaton_.accepts(state))
    for (const int32_t id : stop_ids_)
      if (id >= 0 && id < vocabulary_.size()) set_bit(mask, id);
}

std::shared_ptr<const Mask> Masker::mask(StateId state) {
  if (auto known = masks_.find(state)) return known;
  const auto mask = std::make_shared<Mask>(vocabulary_.mask_words(), 0);
  if (automaton_.count_bytes(state) < kWideBytes) {
    walk(state, 0, vocabulary_.n_nodes(), *mask, nullptr);
  } else {
    // Copied, since new states move the old ones' lists.
    const auto span = automaton_.configurations(state);
    const std::vector<Configuration> all(span.begin(), span.end());
    for (size_t begin = 0, end; begin < all.size(); begin = end) {
      for (end = begin; end < all.size() && all[end].stack == all[begin].stack;) ++end;
      add_group(std::span(all).subspan(begin, end - begin), *mask);
    }
  }
  add_special(state, *mask);
  masks_.add(state, mask, mask->size() * 8);
  return mask;
}

}  // namespace lapidary::grammar
