// The five steps, and what is said when a budget cannot be kept.
#include "quantize/budget.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "quantize/allocation.h"
#include "quantize/budget_floor.h"
#include "quantize/calibration_text.h"
#include "quantize/fisher_costs.h"
#include "quantize/kld_limit.h"
#include "quantize/scratch_model.h"
#include "quantize/tensor_costs.h"
#include "quantize/tensor_plan.h"

namespace lapidary {
namespace {

// What a quantized file's head may hold beyond its source's: the recipe, escaped, and a few lines
// of provenance.
constexpr uint64_t kHeadGrowth = 8192;

class Chooser {
 public:
  Chooser(const ModelSource& source, const std::string& base, const QuantizeOptions& options,
          const BudgetOptions& budget, const Events& events)
      : source_(source), options_(options), budget_(budget), events_(events) {
    probe_.base = base;
    probe_.scratch = budget.scratch;
    probe_.codes = budget.codes.empty() ? allocatable_codes() : budget.codes;
    probe_.tokens = budget_tokens(base, budget.text);
    probe_.n_tokens = budget.n_tokens;
    if (!budget.fisher.empty()) {
      fisher_ = read_fisher(budget.fisher);
      check_fisher(fisher_, budget.fisher, LapReader::open(base)->content_hash());
      probe_.fisher = &fisher_;
    }
    costs_ = measure_costs(source, options, probe_, events);
    units_ = tied_tensors(costs_, options.target);
    if (std::all_of(costs_.begin(), costs_.end(), [](const auto& t) { return t.fixed; }))
      fail(ErrorCode::kUsage, "{}: --keep leaves no tensor to choose a code for",
           source.describe());
    const auto lap = LapReader::open(base);
    data_offset_ = lap->file_bytes();
    for (const LapTensor& t : lap->index()) data_offset_ = std::min(data_offset_, t.offset);
    data_offset_ += kHeadGrowth + 2 * options.recipe.size();
    for (const SourceTensor& t : source.tensors()) n_weights_ += static_cast<double>(t.elements());
    set_flip_price(uniform(probe_.codes.front()));
    if (budget.max_kld)
      limit_.emplace(*budget.max_kld,
                     [this](const Selection& s) { return predict(costs_, codes_of(s)); });
  }

  Allocation run() {
    Selection selection;
    for (int i = 0; i < 2; ++i) {  // flips are priced at the choice that was made
      selection = choose();
      if (!has_flips_) break;
      set_flip_price(codes_of(selection));
    }
    if (!limit_) return result(selection, std::nullopt);
    const KldLimit::Choice choice = limit_->settle(
        menu_, selection,
        [this](const Selection& s) {
          return measure_choice(source_, with_codes(codes_of(s)), probe_, events_);
        },
        [this] { return choose(); }, events_);
    return result(choice.selection, choice.measured);
  }

 private:
  // One code for all that the user leaves open.
  std::vector<Code> uniform(Code code) const {
    std::vector<Code> codes;
    for (const TensorCosts& t : costs_) codes.push_back(t.fixed.value_or(t.nearest(code)));
    return codes;
  }
  std::vector<Code> codes_of(const Selection& selection) const {
    std::vector<Code> codes(costs_.size());
    for (size_t u = 0; u < selection.size(); ++u)
      for (const size_t i : units_[u]) codes[i] = menu_[u][selection[u]].code;
    return codes;
  }
  double correction() const { return limit_ ? limit_->correction() : 1; }
  double corrected(const std::vector<Code>& codes) const {
    return correction() * predict(costs_, codes);
  }

  // The menu with flips as they count near a choice.
  void set_flip_price(const std::vector<Code>& codes) {
    double squares = 0;
    for (size_t i = 0; i < costs_.size(); ++i)
      squares += costs_[i].flip_square(costs_[i].errors.at(codes[i]));
    has_flips_ = squares > 0;
    menu_.clear();
    for (const std::vector<size_t>& unit : units_) {
      std::vector<CodeChoice>& choices = menu_.emplace_back();
      for (const auto& [code, bytes] : costs_[unit.front()].bytes) {
        CodeChoice choice{code};
        for (const size_t i : unit) {
          if (!costs_[i].bytes.contains(code)) choice.kld = HUGE_VAL;  // the user keeps a partner
          if (!std::isfinite(choice.kld)) break;
          choice.bytes += costs_[i].bytes.at(code);
          choice.kld += costs_[i].slope_near(squares) * costs_[i].errors.at(code);
        }
        if (std::isfinite(choice.kld)) choices.push_back(choice);
      }
      if (choices.empty())
        fail(ErrorCode::kBadData,
             "{}: tensor {} has weights too large for the 16-bit scales of every code; keep it "
             "with --keep {}=bf16",
             source_.describe(), costs_[unit.front()].name, costs_[unit.front()].name);
    }
  }

  std::vector<std::pair<std::string, Code>> keep_entries(const std::vector<Code>& codes) const {
    std::vector<std::pair<std::string, Code>> entries;
    for (size_t i = 0; i < codes.size(); ++i) entries.emplace_back(costs_[i].name, codes[i]);
    return entries;
  }

  QuantizeOptions with_codes(const std::vector<Code>& codes) const {
    QuantizeOptions options = options_;
    const auto entries = keep_entries(codes);
    options.keep.insert(options.keep.begin(), entries.begin(), entries.end());
    return options;
  }

  // Sizes of the whole with these codes.
  struct Sizes {
    uint64_t tensors = 0, file = 0;
  };
  Sizes sizes(const std::vector<Code>& codes) const {
    const std::vector<LapTensor> plan = plan_tensors(source_, with_codes(codes));
    Sizes sizes;
    for (const LapTensor& t : plan) sizes.tensors += t.bytes;
    sizes.file = planned_file_bytes(plan, data_offset_);
    return sizes;
  }
  double bits_per_weight(const std::vector<Code>& codes) const {
    return 8.0 * static_cast<double>(sizes(codes).tensors) / n_weights_;
  }

  Selection choose() const {
    if (limit_) return choose_within_kld();
    if (budget_.bits_per_weight)
      return choose_within_bytes(static_cast<uint64_t>(*budget_.bits_per_weight * n_weights_ / 8.0),
                                 [](const Sizes& s) { return s.tensors; });
    return choose_within_bytes(*budget_.file_bytes, [](const Sizes& s) { return s.file; });
  }

  // `measure` says what of the sizes counts. Padding between tensors depends on the choice, so the
  // budget for the tensors alone is moved by what the whole missed.
  template <class Measure>
  Selection choose_within_bytes(uint64_t limit, Measure measure) const {
    const std::vector<Code> smallest = codes_of(smallest_codes());
    const uint64_t least = measure(sizes(smallest));
    if (least > limit)
      fail(ErrorCode::kUsage,
           "{}: the smallest possible is {} bytes ({:.3f} bits per weight), the budget allows {}",
           source_.describe(), least, bits_per_weight(smallest), limit);
    uint64_t budget = bytes_of(menu_, smallest_codes()) + (limit - least);
    Selection best = smallest_codes();
    for (int i = 0; i < 4; ++i) {
      const auto selection = cheapest_within(menu_, budget);
      const uint64_t now = selection ? measure(sizes(codes_of(*selection))) : 0;
      if (selection && now <= limit && kld_of(menu_, *selection) <= kld_of(menu_, best))
        best = *selection;
      const int64_t left = static_cast<int64_t>(limit) - static_cast<int64_t>(now);
      if (!selection || left == 0) break;
      budget = static_cast<uint64_t>(static_cast<int64_t>(budget) + left);
    }
    return best;
  }

  Selection choose_within_kld() const {
    if (const auto selection = limit_->choose(menu_)) return *selection;
    const std::vector<Code> best = codes_of(best_of(menu_));
    fail(ErrorCode::kUsage,
         "{}: the best codes give a KLD of {:.2g} ({:.3f} bits per weight), more than the limit "
         "of {:.2g}",
         source_.describe(), corrected(best), bits_per_weight(best), *budget_.max_kld);
  }

  Selection smallest_codes() const {
    Selection selection;
    for (const auto& choices : menu_)
      selection.push_back(static_cast<size_t>(
          std::ranges::min_element(choices, std::less(), &CodeChoice::bytes) - choices.begin()));
    return selection;
  }

  Allocation result(const Selection& selection, std::optional<double> measured) const {
    const std::vector<Code> codes = codes_of(selection);
    Allocation allocation;
    allocation.codes = keep_entries(codes);
    for (size_t i = 0; i < costs_.size(); ++i)
      allocation.tensors.push_back({costs_[i].name, codes[i], costs_[i].bytes.at(codes[i]),
                                    correction() * costs_[i].alone(codes[i])});
    allocation.predicted_kld = corrected(codes);
    allocation.measured_kld = measured;
    allocation.bits_per_weight = bits_per_weight(codes);
    // What no choice changes, tensors outside the menu, is the same at every point.
    const uint64_t others = sizes(codes).tensors - bytes_of(menu_, selection);
    for (const Selection& point : frontier(menu_))
      allocation.curve.push_back(
          {8.0 * static_cast<double>(others + bytes_of(menu_, point)) / n_weights_,
           corrected(codes_of(point))});
    for (const Code code : probe_.codes) {
      bool fits = true;
      for (const TensorCosts& t : costs_)
        fits &= std::isfinite(t.errors.at(t.fixed.value_or(t.nearest(code))));
      if (fits)
        allocation.uniform.push_back(
            {code, {bits_per_weight(uniform(code)), corrected(uniform(code))}});
    }
    return allocation;
  }

  const ModelSource& source_;
  const QuantizeOptions& options_;
  const BudgetOptions& budget_;
  const Events& events_;
  FisherStatistics fisher_;
  ProbeOptions probe_;
  std::vector<TensorCosts> costs_;
  std::vector<std::vector<size_t>> units_;  // of costs_, with one code each
  Menu menu_;                               // of units
  std::optional<KldLimit> limit_;
  bool has_flips_ = false;
  uint64_t data_offset_ = 0;
  double n_weights_ = 0;
};

}  // namespace

std::vector<int32_t> budget_tokens(const std::string& base, const std::string& text) {
  const auto model = Model::load(base);
  if (!model->has_tokenizer())
    fail(ErrorCode::kBadData, "{}: has no tokenizer, which measuring on text needs", base);
  const ModelMetadata& metadata = model->file().metadata();
  return text.empty() ? builtin_calibration_tokens(model->tokenizer(), metadata)
                      : calibration_tokens(model->tokenizer(), metadata, text);
}

Allocation allocate(const ModelSource& source, const std::string& source_path,
                    const QuantizeOptions& options, const BudgetOptions& budget,
                    const Events& events) {
  LAPIDARY_CHECK(budget.file_bytes.has_value() + budget.bits_per_weight.has_value() +
                     budget.max_kld.has_value() ==
                 1);
  refuse_impossible(source, options, budget);
  const ExactModel exact(source, source_path, budget.scratch, events);
  return Chooser(source, exact.path(), options, budget, events).run();
}

}  // namespace lapidary
