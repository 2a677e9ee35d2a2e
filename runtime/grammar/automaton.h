// A network made deterministic while it is used.
//
// A configuration is a node and a stack of nodes to return to; a state is the set of configurations
// that one text can lead to. States are numbered and their transitions remembered, so after the
// first visit a byte costs one look-up. Stacks are shared: each is a top and a stack below.
// Every state but kDead can be completed to an accepted text: configurations that could not be,
// because the stack would pass its depth limit, are never entered (Network::heights).
// Not thread-safe; masker.h guards it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/grammar/network.h"

namespace lapidary::grammar {

using StateId = uint32_t;
using StackId = uint32_t;
inline constexpr StateId kDead = 0;
inline constexpr StateId kUnknownState = 0xFFFFFFFFu;
inline constexpr StackId kEmptyStack = 0;  // a return here ends the whole text
inline constexpr StackId kOpenStack = 1;   // unknown frames: a return here leaves what is known

struct AutomatonLimits {
  uint32_t max_depth = 128;             // frames: about twice the nesting of JSON
  size_t max_bytes = 256ull << 20;      // of states and transitions
  size_t max_configurations = 100'000;  // of one state
};

struct Configuration {
  StackId stack;
  NodeId node;  // kReturnNode: the stack's bottom was left
  auto operator<=>(const Configuration&) const = default;
};

class Automaton {
 public:
  // Borrows `network`.
  Automaton(const Network& network, const AutomatonLimits& limits);

  StateId start() const { return start_; }
  // Throws kOutOfMemory over the limits.
  StateId step(StateId state, uint8_t byte) {
    const StateId known = (*states_[state].row)[byte];
    return known != kUnknownState ? known : find_step(state, byte);
  }
  bool accepts(StateId state) const { return states_[state].accepts; }   // the text may end here
  bool can_leave(StateId state) const { return states_[state].leaves; }  // kOpenStack is left
  // Deepest stack that ways to this state looked at; kNeverReturns when one passed the limit and
  // was left out.
  uint32_t need(StateId state) const { return states_[state].need; }
  // Sorted by stack, then node.
  std::span<const Configuration> configurations(StateId state) const {
    return {states_[state].configurations.get(), states_[state].n_configurations};
  }
  // The one byte that leads on, or -1 when there are more, none, or the text may end.
  int only_byte(StateId state) const;
  size_t count_bytes(StateId state) const;  // how many bytes lead on

  // Nothing that needs `need` frames over kOpenStack passes the depth limit over `stack`.
  bool fits_over(StackId stack, uint32_t need) const {
    return need != kNeverReturns && stacks_[stack].depth + need <= limits_.max_depth;
  }
  // The state of `group`, configurations of one stack; and one over kOpenStack that is alike for
  // the length of a token. Ends of the text are left out: kDead when nothing else is there.
  StateId only(std::span<const Configuration> group);
  StateId opened(std::span<const Configuration> group);
  // What follows when `stack`, not empty, returns to its top.
  StateId after_return(StackId stack);
  size_t bytes() const { return bytes_; }

 private:
  using Row = std::array<StateId, 256>;
  struct State {
    std::unique_ptr<Row> row;
    std::unique_ptr<Configuration[]> configurations;
    uint32_t n_configurations = 0;
    uint32_t need = 0;
    bool accepts = false, leaves = false;
  };
  struct Stack {
    NodeId top;
    StackId below;
    uint32_t depth;
  };

  StateId find_step(StateId state, uint8_t byte);
  StackId push(NodeId top, StackId below);
  void visit(Configuration c);
  StateId close();  // follows skips, calls and returns from what was visited
  StateId intern(uint32_t need);
  StateId guarded(const auto& work);
  bool fits(uint32_t need);
  void forget_work();
  void charge(size_t bytes);
  bool was_visited(Configuration c);

  const Network& network_;
  AutomatonLimits limits_;
  std::vector<State> states_;
  std::vector<Stack> stacks_;
  std::vector<StateId> state_slots_;  // open addressing, by hash of configurations
  std::vector<StackId> stack_slots_;
  size_t bytes_ = 0;
  StateId start_ = kDead;

  // Reused between steps.
  std::vector<Configuration> todo_, kept_;
  std::vector<uint64_t> visited_slots_;
  size_t n_visited_ = 0;
  uint32_t need_ = 0;
};

}  // namespace lapidary::grammar
