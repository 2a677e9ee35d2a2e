// Subset construction, one transition at a time.
#include "runtime/grammar/automaton.h"

#include <algorithm>
#include <bitset>

#include "formats/error.h"

namespace lapidary::grammar {
namespace {

constexpr uint64_t kNotVisited = ~uint64_t{0};

uint64_t mix(uint64_t x) {  // splitmix64's finalizer
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}
uint64_t key_of(Configuration c) { return uint64_t{c.stack} << 32 | c.node; }
uint64_t hash_of(std::span<const Configuration> configurations) {
  uint64_t hash = configurations.size();
  for (const Configuration& c : configurations) hash = mix(hash * 31 + key_of(c));
  return hash;
}

// Doubles a table of numbers when it is half full; `hash` of an old number places it anew.
void make_room(std::vector<uint32_t>& slots, size_t count, const auto& hash) {
  if (2 * (count + 1) < slots.size()) return;
  std::vector<uint32_t> old(std::max<size_t>(64, 2 * slots.size()), kUnknownState);
  old.swap(slots);
  for (const uint32_t number : old) {
    if (number == kUnknownState) continue;
    size_t at = hash(number) & (slots.size() - 1);
    while (slots[at] != kUnknownState) at = (at + 1) & (slots.size() - 1);
    slots[at] = number;
  }
}

}  // namespace

Automaton::Automaton(const Network& network, const AutomatonLimits& limits)
    : network_(network), limits_(limits) {
  stacks_ = {{kReturnNode, kEmptyStack, 0}, {kReturnNode, kOpenStack, 0}};
  visited_slots_.assign(64, kNotVisited);
  if (network.heights[network.start] > limits.max_depth)
    fail(ErrorCode::kUsage, "the shortest text of the grammar nests deeper than {} levels",
         limits.max_depth);
  LAPIDARY_CHECK(close() == kDead);
  visit({kEmptyStack, network.start});
  start_ = close();
}

void Automaton::charge(size_t bytes) {
  bytes_ += bytes;
  if (bytes_ > limits_.max_bytes)
    fail(ErrorCode::kOutOfMemory,
         "the grammar's states need more than {} MiB; use a less ambiguous schema or pattern",
         limits_.max_bytes >> 20);
}

bool Automaton::was_visited(Configuration c) {
  if (2 * (n_visited_ + 1) >= visited_slots_.size()) {
    std::vector<uint64_t> old(2 * visited_slots_.size(), kNotVisited);
    old.swap(visited_slots_);
    for (const uint64_t key : old) {
      if (key == kNotVisited) continue;
      size_t at = mix(key) & (visited_slots_.size() - 1);
      while (visited_slots_[at] != kNotVisited) at = (at + 1) & (visited_slots_.size() - 1);
      visited_slots_[at] = key;
    }
  }
  const uint64_t key = key_of(c);
  size_t at = mix(key) & (visited_slots_.size() - 1);
  for (; visited_slots_[at] != kNotVisited; at = (at + 1) & (visited_slots_.size() - 1))
    if (visited_slots_[at] == key) return true;
  visited_slots_[at] = key;
  ++n_visited_;
  return false;
}

bool Automaton::fits(uint32_t need) {
  need_ = std::max(need_, need <= limits_.max_depth ? need : kNeverReturns);
  return need <= limits_.max_depth;
}

// Within the depth limit and not known yet: to be closed.
void Automaton::visit(Configuration c) {
  if (c.node != kReturnNode && !fits(stacks_[c.stack].depth + network_.heights[c.node])) return;
  if (was_visited(c)) return;
  if (n_visited_ > limits_.max_configurations)
    fail(ErrorCode::kOutOfMemory,
         "the grammar is too ambiguous: over {} ways at one place; use a simpler schema or pattern",
         limits_.max_configurations);
  todo_.push_back(c);
}

StackId Automaton::push(NodeId top, StackId below) {
  const auto hash = [this](StackId s) {
    return mix(uint64_t{stacks_[s].top} << 32 | stacks_[s].below);
  };
  make_room(stack_slots_, stacks_.size(), hash);
  const size_t mask = stack_slots_.size() - 1;
  size_t at = mix(uint64_t{top} << 32 | below) & mask;
  for (; stack_slots_[at] != kUnknownState; at = (at + 1) & mask)
    if (const Stack& s = stacks_[stack_slots_[at]]; s.top == top && s.below == below)
      return stack_slots_[at];
  charge(sizeof(Stack) + 2 * sizeof(StackId));
  stack_slots_[at] = static_cast<StackId>(stacks_.size());
  stacks_.push_back({top, below, stacks_[below].depth + 1});
  return stack_slots_[at];
}

StateId Automaton::close() {
  kept_.clear();
  while (!todo_.empty()) {
    const Configuration c = todo_.back();
    todo_.pop_back();
    if (c.node == kReturnNode) {
      if (c.stack <= kOpenStack)
        kept_.push_back(c);
      else
        visit({stacks_[c.stack].below, stacks_[c.stack].top});
      continue;
    }
    if (network_.returns[c.node]) visit({c.stack, kReturnNode});
    for (const NodeId to : network_.skips(c.node)) visit({c.stack, to});
    for (const Call& call : network_.calls(c.node)) {
      if (call.then == kReturnNode) {
        visit({c.stack, call.entry});
      } else if (const uint32_t depth = stacks_[c.stack].depth;
                 fits(std::max(depth + 1 + network_.heights[call.entry],
                               depth + network_.heights[call.then]))) {
        visit({push(call.then, c.stack), call.entry});
      }
    }
    if (!network_.edges(c.node).empty()) kept_.push_back(c);
  }
  std::sort(kept_.begin(), kept_.end());
  const uint32_t need = need_;
  forget_work();
  return intern(need);
}

void Automaton::forget_work() {
  todo_.clear();
  visited_slots_.assign(std::min<size_t>(visited_slots_.size(), 1024), kNotVisited);
  n_visited_ = 0;
  need_ = 0;
}

StateId Automaton::intern(uint32_t need) {
  const auto hash = [this](StateId s) { return hash_of(configurations(s)); };
  make_room(state_slots_, states_.size(), hash);
  const size_t mask = state_slots_.size() - 1;
  size_t at = hash_of(kept_) & mask;
  for (; state_slots_[at] != kUnknownState; at = (at + 1) & mask)
    if (std::ranges::equal(configurations(state_slots_[at]), kept_)) {
      State& known = states_[state_slots_[at]];
      known.need = std::max(known.need, need);
      return state_slots_[at];
    }

  charge(sizeof(State) + sizeof(Row) + kept_.size() * sizeof(Configuration) + 2 * sizeof(StateId));
  State state;
  state.row = std::make_unique<Row>();
  state.row->fill(kept_.empty() ? kDead : kUnknownState);
  state.configurations = std::make_unique<Configuration[]>(kept_.size());
  std::copy(kept_.begin(), kept_.end(), state.configurations.get());
  state.n_configurations = static_cast<uint32_t>(kept_.size());
  state.need = need;
  for (const Configuration& c : kept_)
    if (c.node == kReturnNode) (c.stack == kEmptyStack ? state.accepts : state.leaves) = true;
  state_slots_[at] = static_cast<StateId>(states_.size());
  states_.push_back(std::move(state));
  return state_slots_[at];
}

StateId Automaton::guarded(const auto& work) {
  try {
    return work();
  } catch (...) {
    forget_work();
    throw;
  }
}

StateId Automaton::find_step(StateId state, uint8_t byte) {
  const StateId next = guarded([&] {
    for (const Configuration& c : configurations(state)) {
      if (c.node == kReturnNode) continue;
      for (const ByteEdge& edge : network_.edges(c.node))
        if (edge.low <= byte && byte <= edge.high) visit({c.stack, edge.to});
    }
    return close();
  });
  (*states_[state].row)[byte] = next;
  return next;
}

StateId Automaton::only(std::span<const Configuration> group) {
  kept_.clear();
  for (const Configuration& c : group)
    if (c.node != kReturnNode) kept_.push_back(c);
  return intern(0);
}

StateId Automaton::opened(std::span<const Configuration> group) {
  kept_.clear();
  for (const Configuration& c : group)
    if (c.node != kReturnNode) kept_.push_back({kOpenStack, network_.alike[c.node]});
  std::sort(kept_.begin(), kept_.end());
  kept_.erase(std::unique(kept_.begin(), kept_.end()), kept_.end());
  return intern(0);
}

StateId Automaton::after_return(StackId stack) {
  LAPIDARY_CHECK(stack > kOpenStack);
  return guarded([&] {
    visit({stack, kReturnNode});
    return close();
  });
}

namespace {

std::bitset<256> next_bytes(const Network& network, std::span<const Configuration> configurations) {
  std::bitset<256> bytes;
  for (const Configuration& c : configurations)
    if (c.node != kReturnNode)
      for (const ByteEdge& edge : network.edges(c.node))
        for (size_t byte = edge.low; byte <= edge.high; ++byte) bytes.set(byte);
  return bytes;
}

}  // namespace

size_t Automaton::count_bytes(StateId state) const {
  return next_bytes(network_, configurations(state)).count();
}

int Automaton::only_byte(StateId state) const {
  if (accepts(state) || can_leave(state)) return -1;
  const std::bitset<256> bytes = next_bytes(network_, configurations(state));
  return bytes.count() == 1 ? static_cast<int>(bytes._Find_first()) : -1;
}

}  // namespace lapidary::grammar
