// Tables are shared by all matchers of a constraint under one lock. When they have grown to half
// their limit, later matchers begin with new ones, so that a constraint kept by a server does not
// grow for ever and nobody's states vanish under them.
#include "runtime/grammar/constraint.h"

#include <mutex>

#include "formats/error.h"
#include "runtime/grammar/masker.h"
#include "runtime/grammar/rule_network.h"

namespace lapidary {

using grammar::kDead;
using grammar::StateId;

namespace {
constexpr StateId kStopped = grammar::kUnknownState;  // a stop token was accepted
constexpr size_t kMaxForcedBytes = 1024;
}  // namespace

struct Constraint::Tables {
  explicit Tables(const State& state);
  std::mutex mutex;
  grammar::Masker masker;
};

struct Constraint::State {
  std::shared_ptr<const grammar::Vocabulary> vocabulary;
  std::vector<int32_t> stop_ids;
  ConstraintLimits limits;
  grammar::SpecialTokens specials;
  grammar::Network network;
  std::mutex mutex;
  std::shared_ptr<Tables> tables;
};

Constraint::Tables::Tables(const State& s)
    : masker(*s.vocabulary, s.network, s.specials, s.stop_ids,
             {.max_depth = s.limits.max_depth, .max_bytes = s.limits.max_state_bytes},
             s.limits.max_mask_bytes) {}

Constraint::Constraint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Constraint::~Constraint() = default;

std::shared_ptr<const Constraint> Constraint::compile(
    const Rule& rule, std::shared_ptr<const grammar::Vocabulary> vocabulary,
    std::vector<int32_t> stop_ids, const ConstraintLimits& limits) {
  auto state = std::make_unique<State>();
  state->vocabulary = std::move(vocabulary);
  state->stop_ids = std::move(stop_ids);
  state->limits = limits;
  state->network = grammar::build_network(rule, *state->vocabulary, state->specials);
  state->tables = std::make_shared<Tables>(*state);
  return std::shared_ptr<const Constraint>(new Constraint(std::move(state)));
}

std::shared_ptr<Constraint::Tables> Constraint::tables() const {
  const std::lock_guard lock(state_->mutex);
  {
    const std::lock_guard inner(state_->tables->mutex);
    if (state_->tables->masker.automaton().bytes() <= state_->limits.max_state_bytes / 2)
      return state_->tables;
  }
  return state_->tables = std::make_shared<Tables>(*state_);
}

size_t Constraint::bytes() const {
  const std::lock_guard lock(state_->mutex);
  const std::lock_guard inner(state_->tables->mutex);
  return state_->network.bytes() + state_->tables->masker.bytes();
}
size_t Constraint::n_nodes() const { return state_->network.n_nodes(); }

Matcher::Matcher(std::shared_ptr<const Constraint> constraint)
    : constraint_(std::move(constraint)), tables_(constraint_->tables()) {
  const std::lock_guard lock(tables_->mutex);
  path_.push_back(tables_->masker.automaton().start());
}

std::span<const uint64_t> Matcher::mask() {
  const std::lock_guard lock(tables_->mutex);
  mask_ = tables_->masker.mask(path_.back() == kStopped ? kDead : path_.back());
  return *mask_;
}

bool Matcher::accept(int32_t token) {
  const std::lock_guard lock(tables_->mutex);
  grammar::Masker& masker = tables_->masker;
  const StateId at = path_.back();
  if (at == kStopped) return false;
  if (masker.is_stop(token) && masker.automaton().accepts(at)) {
    path_.push_back(kStopped);
    return true;
  }
  const StateId next = masker.step_token(at, token);
  if (next == kDead) return false;
  path_.push_back(next);
  return true;
}

bool Matcher::is_finished() const {
  const StateId at = path_.back();
  if (at == kStopped) return true;
  const std::lock_guard lock(tables_->mutex);
  const grammar::Automaton& automaton = tables_->masker.automaton();
  return automaton.accepts(at) && automaton.count_bytes(at) == 0;
}

bool Matcher::may_end() const {
  const StateId at = path_.back();
  if (at == kStopped) return true;
  const std::lock_guard lock(tables_->mutex);
  return tables_->masker.automaton().accepts(at);
}

void Matcher::rollback(size_t n) {
  LAPIDARY_CHECK(n < path_.size());
  path_.resize(path_.size() - n);
}

std::string Matcher::forced_bytes() {
  std::string bytes;
  if (path_.back() == kStopped) return bytes;
  const std::lock_guard lock(tables_->mutex);
  grammar::Automaton& automaton = tables_->masker.automaton();
  StateId at = path_.back();
  for (int byte; bytes.size() < kMaxForcedBytes && (byte = automaton.only_byte(at)) >= 0;) {
    if (byte >= grammar::SpecialTokens::kFirst) break;
    bytes += static_cast<char>(byte);
    at = automaton.step(at, static_cast<uint8_t>(byte));
  }
  return bytes;
}

std::vector<int32_t> Matcher::forced_tokens() {
  const std::string bytes = forced_bytes();
  const grammar::Vocabulary& vocabulary = *constraint_->state_->vocabulary;
  std::vector<int32_t> tokens;
  for (std::string_view rest = bytes; !rest.empty();) {
    const int32_t token = vocabulary.longest_prefix(rest);
    if (token < 0) break;
    tokens.push_back(token);
    rest.remove_prefix(vocabulary.bytes(token).size());
  }
  if (!tokens.empty()) tokens.pop_back();
  return tokens;
}

}  // namespace lapidary
