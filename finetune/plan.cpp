// Shuffling, filling and packing.
#include "finetune/plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "formats/error.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

// How many waiting general examples are looked through for one that fits the room left.
constexpr size_t kLookAhead = 64;

// An endless supply of example numbers, each pass in a new order.
class Deck {
 public:
  Deck(std::span<const int64_t> lengths, uint64_t seed) : lengths_(lengths), random_(seed) {}

  int64_t next() {
    if (waiting_.empty()) refill();
    const int64_t index = waiting_.back();
    waiting_.pop_back();
    return index;
  }
  int64_t peek() {
    if (waiting_.empty()) refill();
    return waiting_.back();
  }

  // The longest of the next few that is at most `room` tokens, taken out; -1 when none is.
  int64_t take_fitting(int64_t room) {
    if (waiting_.empty()) refill();
    const size_t first = waiting_.size() - std::min(waiting_.size(), kLookAhead);
    size_t best = waiting_.size();
    for (size_t i = waiting_.size(); i-- > first;) {
      if (length(waiting_[i]) > room) continue;
      if (best == waiting_.size() || length(waiting_[i]) > length(waiting_[best])) best = i;
    }
    if (best == waiting_.size()) return -1;
    const int64_t index = waiting_[best];
    waiting_.erase(waiting_.begin() + static_cast<int64_t>(best));
    return index;
  }

  int64_t length(int64_t index) const { return lengths_[static_cast<size_t>(index)]; }

 private:
  void refill() {
    waiting_.resize(lengths_.size());
    std::iota(waiting_.begin(), waiting_.end(), 0);
    for (size_t i = waiting_.size(); i > 1; --i)
      std::swap(waiting_[i - 1], waiting_[random_.below(i)]);
  }

  std::span<const int64_t> lengths_;
  SplitMix64 random_;
  std::vector<int64_t> waiting_;  // next at the back
};

// General sources in turn, each time the one furthest behind its part.
class GeneralDeck {
 public:
  GeneralDeck(std::span<const GeneralLengths> sources, uint64_t seed) {
    double all = 0;
    for (const GeneralLengths& source : sources) all += source.weight;
    for (size_t i = 0; i < sources.size(); ++i)
      sources_.push_back(
          {Deck(sources[i].lengths, ~(seed + i * 0x9E3779B97F4A7C15u)), sources[i].weight / all});
  }

  // An example of at most `room` tokens of the source that is due; when none fits, the beginning of
  // the next one, which then has had its turn: were it put back, a source of long examples would
  // show the same beginning for ever.
  PlannedExample take(int64_t room) {
    size_t due = 0;
    for (size_t i = 1; i < sources_.size(); ++i)
      if (behind(i) > behind(due)) due = i;
    Source& source = sources_[due];
    const int64_t fitting = source.deck.take_fitting(room);
    const PlannedExample example{static_cast<int>(due) + 1,
                                 fitting >= 0 ? fitting : source.deck.next(),
                                 fitting >= 0 ? source.deck.length(fitting) : room};
    source.taken += example.n_tokens;
    taken_ += example.n_tokens;
    return example;
  }
  int64_t taken() const { return taken_; }

 private:
  struct Source {
    Deck deck;
    double part;
    int64_t taken = 0;
  };
  double behind(size_t i) const {
    return sources_[i].part * static_cast<double>(taken_ + 1) -
           static_cast<double>(sources_[i].taken);
  }

  std::vector<Source> sources_;
  int64_t taken_ = 0;
};

// First fit: examples in order, each into the first row with room for it.
std::vector<PlannedRow> pack(const std::vector<PlannedExample>& examples, int64_t context) {
  std::vector<PlannedRow> rows;
  std::vector<int64_t> used;
  for (const PlannedExample& example : examples) {
    size_t row = 0;
    while (row < rows.size() && used[row] + example.n_tokens > context) ++row;
    if (row == rows.size()) {
      rows.emplace_back();
      used.push_back(0);
    }
    rows[row].push_back(example);
    used[row] += example.n_tokens;
  }
  return rows;
}

}  // namespace

std::vector<PlannedStep> plan_training(std::span<const int64_t> domain,
                                       std::span<const GeneralLengths> general,
                                       const PlanOptions& options) {
  LAPIDARY_CHECK(!domain.empty() && options.general_share >= 0 && options.general_share < 1);
  const double share = general.empty() ? 0.0 : options.general_share;
  Deck domain_deck(domain, options.seed);
  GeneralDeck general_deck(general, options.seed);
  const auto budget =
      std::max<int64_t>(1, std::llround(static_cast<double>(options.batch_tokens) * (1 - share)));
  const auto n_domain =
      std::max<int64_t>(1, std::llround(options.epochs * static_cast<double>(domain.size())));

  std::vector<PlannedStep> plan;
  int64_t domain_tokens = 0, examples_taken = 0;
  while (options.steps > 0 ? static_cast<int64_t>(plan.size()) < options.steps
                           : examples_taken < n_domain) {
    PlannedStep step;
    std::vector<PlannedExample> examples;
    int64_t in_step = 0;
    while (options.steps > 0 || examples_taken < n_domain) {
      const int64_t length = domain_deck.length(domain_deck.peek());
      if (in_step > 0 && in_step + length > budget) break;
      examples.push_back({0, domain_deck.next(), length});
      in_step += length;
      ++examples_taken;
    }
    domain_tokens += in_step;
    const int64_t target = std::llround(static_cast<double>(domain_tokens) * share / (1 - share));
    while (general_deck.taken() < target) {
      examples.push_back(general_deck.take(target - general_deck.taken()));
      step.general_tokens += examples.back().n_tokens;
    }
    step.tokens = in_step + step.general_tokens;
    step.rows = pack(examples, options.context);
    plan.push_back(std::move(step));
  }
  return plan;
}

}  // namespace lapidary
