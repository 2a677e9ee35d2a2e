// One menu per matrix, its costs from a probe and its errors from a sample of rows.
#include "quantize/gguf_types.h"

#include <fnmatch.h>

#include <algorithm>
#include <set>

#include "formats/error.h"
#include "formats/ggml_blocks.h"
#include "formats/gguf_names.h"
#include "kernels/ggml_encode.h"
#include "kernels/thread_pool.h"
#include "quantize/allocation.h"
#include "quantize/budget.h"
#include "quantize/fisher_costs.h"
#include "quantize/ggml_rounder.h"
#include "quantize/gguf_divergence.h"
#include "quantize/kld_limit.h"
#include "quantize/scratch_model.h"
#include "quantize/tensor_costs.h"

namespace lapidary {
namespace {

constexpr GgmlType kMenu[] = {GgmlType::kQ3_K, GgmlType::kIQ4_XS, GgmlType::kQ4_K,
                              GgmlType::kQ5_K, GgmlType::kQ6_K,   GgmlType::kQ8_0};
constexpr int64_t kSampledRows = 256;

uint64_t type_bytes(const SourceTensor& t, GgmlType type) {
  return static_cast<uint64_t>(block_bytes(type, t.elements()));
}

GgmlType float_type(Code code) {
  return code == Code::kF32   ? GgmlType::kF32
         : code == Code::kF16 ? GgmlType::kF16
                              : GgmlType::kBF16;
}

// The menu for rows of k inputs, without what would be another type there.
std::vector<GgmlType> types_for(int64_t k) {
  std::vector<GgmlType> types;
  for (const GgmlType type : kMenu) {
    const GgmlType fitting = fitting_type(type, k);
    if (std::find(types.begin(), types.end(), fitting) == types.end()) types.push_back(fitting);
  }
  return types;
}

// ||W - W'||^2 / ||W||^2 over rows spread over the tensor.
double type_error(const ModelSource& source, size_t tensor, GgmlType type, ThreadPool& pool) {
  const SourceTensor& t = source.tensors()[tensor];
  const int64_t n = std::min(kSampledRows, t.rows());
  std::vector<double> errors(static_cast<size_t>(n)), energies(errors);
  pool.run(n, [&](int64_t i) {
    std::vector<float> row(static_cast<size_t>(t.k())), back(row);
    source.read_rows(tensor, (2 * i + 1) * t.rows() / (2 * n), 1, row);
    std::vector<uint8_t> blocks(static_cast<size_t>(block_bytes(type, t.k())));
    encode_blocks(type, row, blocks);
    decode_blocks(type, blocks, back);
    for (size_t j = 0; j < row.size(); ++j) {
      const double difference = double{row[j]} - back[j];
      errors[static_cast<size_t>(i)] += difference * difference;
      energies[static_cast<size_t>(i)] += double{row[j]} * row[j];
    }
  });
  double error = 0, energy = 0;
  for (size_t i = 0; i < errors.size(); ++i) {
    error += errors[i];
    energy += energies[i];
  }
  return energy > 0 ? error / energy : 0;
}

class Chooser {
 public:
  Chooser(const ModelSource& source, const GgufTypeOptions& options,
          std::map<std::string, GgmlType>* types, const Events& events)
      : source_(source),
        options_(options),
        types_(*types),
        events_(events),
        pool_(options.n_threads) {}

  // Gives what was measured of the choice under a limit.
  std::optional<double> run(const std::string& base) {
    if (!options_.max_kld) open_bytes();
    ProbeOptions probe;
    probe.base = base;
    probe.scratch = options_.scratch;
    probe.codes = {Code::kW4, Code::kW6};
    probe.tokens = budget_tokens(base, options_.text);
    probe.n_tokens = options_.n_tokens;
    FisherStatistics fisher;
    if (!options_.fisher.empty()) {
      fisher = read_fisher(options_.fisher);
      check_fisher(fisher, options_.fisher, LapReader::open(base)->content_hash());
      probe.fisher = &fisher;
    }
    QuantizeOptions plain;
    plain.n_threads = options_.n_threads;
    costs_ = measure_costs(source_, plain, probe, events_);
    // What is fixed costs nothing of a size, but has its share of the loss.
    std::erase_if(costs_, [&](const TensorCosts& t) {
      return !open_.contains(t.name) && !(options_.max_kld && is_rounded(t.name));
    });
    std::set<std::string> packable;  // tensors of other widths stay floats
    for (const TensorCosts& cost : costs_) packable.insert(cost.name);
    std::erase_if(open_, [&](const std::string& name) { return !packable.contains(name); });
    for (size_t i = 0; i < source_.tensors().size(); ++i) index_[source_.tensors()[i].name] = i;
    for (const TensorCosts& cost : costs_) add_menu(cost);
    if (options_.max_kld) return choose_within_kld(probe);
    choose_within_bytes(open_bytes());
    return std::nullopt;
  }

  // A matrix that the budget decides.
  void leave_open(const std::string& name) { open_.insert(name); }

 private:
  // Of the budget, what the tensors that it decides may take. Throws before anything is measured.
  uint64_t open_bytes() const {
    uint64_t others = 0, least = 0, n_weights = 0;
    for (const SourceTensor& t : source_.tensors()) {
      n_weights += static_cast<uint64_t>(t.elements());
      if (!open_.contains(t.name)) {
        others += bytes_now(t);
        continue;
      }
      uint64_t smallest = UINT64_MAX;
      for (const GgmlType type : types_for(t.k()))
        smallest = std::min(smallest, type_bytes(t, type));
      least += smallest;
    }
    const auto weights = static_cast<double>(n_weights);
    const uint64_t allowed = options_.tensor_bytes.value_or(
        static_cast<uint64_t>(options_.bits_per_weight.value_or(0) * weights / 8));
    if (others + least > allowed)
      fail(ErrorCode::kUsage,
           "{}: the smallest GGUF types make {} bytes of tensors ({:.3f} bits per weight), the "
           "budget allows {}",
           source_.describe(), others + least, 8 * static_cast<double>(others + least) / weights,
           allowed);
    return allowed - others;
  }

  uint64_t bytes_now(const SourceTensor& t) const {
    const auto found = types_.find(t.name);
    return type_bytes(t, found == types_.end() ? GgmlType::kF32 : found->second);
  }

  void add_menu(const TensorCosts& cost) {
    const size_t index = index_.at(cost.name);
    const SourceTensor& t = source_.tensors()[index];
    offers_.push_back(open_.contains(cost.name) ? types_for(t.k())
                                                : std::vector{types_.at(cost.name)});
    errors_.emplace_back();
    menu_.emplace_back();
    for (const GgmlType type : offers_.back()) {
      errors_.back().push_back(type_error(source_, index, type, pool_));
      // The code is not asked for: a choice is known by its place.
      menu_.back().push_back({Code::kF32, type_bytes(t, type), 0});
    }
  }

  void price(const Selection& at) {
    double squares = 0;
    for (size_t i = 0; i < costs_.size(); ++i) squares += costs_[i].flip_square(errors_[i][at[i]]);
    for (size_t i = 0; i < costs_.size(); ++i)
      for (size_t c = 0; c < menu_[i].size(); ++c)
        menu_[i][c].kld = costs_[i].slope_near(squares) * errors_[i][c];
  }

  void choose_within_bytes(uint64_t budget) {
    Selection selection(costs_.size(), 0);
    for (int round = 0; round < 3; ++round) {
      price(selection);
      const auto next = cheapest_within(menu_, budget);
      LAPIDARY_CHECK(next.has_value());  // open_bytes() has seen to it
      selection = *next;
    }
    set_types(selection);
  }

  std::optional<double> choose_within_kld(const ProbeOptions& probe) {
    KldLimit limit(*options_.max_kld, [this](const Selection& s) { return predicted(s); });
    const auto choose = [&] {
      if (auto selection = limit.choose(menu_)) return *selection;
      fail(ErrorCode::kUsage,
           "{}: the best types give a KLD of {:.2g}, more than the limit of {:.2g}",
           source_.describe(), limit.corrected(best_of(menu_)), *options_.max_kld);
    };
    Selection selection(costs_.size(), 0);
    for (int round = 0; round < 2; ++round) {  // flips are priced at the choice that was made
      price(selection);
      selection = choose();
    }
    const auto measure = [&](const Selection& s) {
      set_types(s);
      return measure_gguf_types(source_, types_, options_.calibration, probe, options_.n_threads,
                                events_);
    };
    const KldLimit::Choice choice = limit.settle(menu_, selection, measure, choose, events_);
    set_types(choice.selection);
    return choice.measured;
  }

  double predicted(const Selection& selection) const {
    std::vector<double> errors;
    for (size_t i = 0; i < costs_.size(); ++i) errors.push_back(errors_[i][selection[i]]);
    return predict(costs_, errors);
  }

  void set_types(const Selection& selection) {
    for (size_t i = 0; i < costs_.size(); ++i) types_[costs_[i].name] = offers_[i][selection[i]];
  }

  bool is_rounded(const std::string& name) const {
    const auto found = types_.find(name);
    return found != types_.end() && is_block_type(found->second);
  }

  const ModelSource& source_;
  const GgufTypeOptions& options_;
  std::map<std::string, GgmlType>& types_;
  const Events& events_;
  ThreadPool pool_;
  std::set<std::string> open_;
  std::map<std::string, size_t> index_;
  std::vector<TensorCosts> costs_;
  std::vector<std::vector<GgmlType>> offers_;
  std::vector<std::vector<double>> errors_;
  Menu menu_;
};

}  // namespace

GgufTypes choose_gguf_types(const ModelSource& source, const std::string& source_path,
                            const GgufTypeOptions& options, const Events& events) {
  GgufTypes result;
  std::map<std::string, GgmlType>& types = result.types;
  Chooser chooser(source, options, &types, events);
  std::vector<bool> used(options.keep.size());
  for (const SourceTensor& t : source.tensors()) {
    if (!traits(t.code).is_float)
      fail(ErrorCode::kUsage, "{}: tensor {} is {} already; give the float original",
           source.describe(), t.name, code_name(t.code));
    if (!gguf_place(source.metadata().config, t.name).matrix) continue;
    types[t.name] = float_type(t.code);
    const auto rule = std::find_if(options.keep.begin(), options.keep.end(), [&](const auto& r) {
      return fnmatch(r.first.c_str(), t.name.c_str(), 0) == 0;
    });
    if (rule != options.keep.end()) {
      used[static_cast<size_t>(rule - options.keep.begin())] = true;
      types[t.name] = fitting_type(rule->second, t.k());
    } else if (t.k() < 64) {
      continue;  // a float: packing would save little
    } else if (options.has_budget()) {
      chooser.leave_open(t.name);
    } else {
      const bool sensitive = t.name.ends_with("per_layer_model_projection.weight");
      types[t.name] = fitting_type(sensitive ? GgmlType::kQ8_0 : options.weights, t.k());
    }
  }
  for (size_t i = 0; i < used.size(); ++i)
    if (!used[i])
      fail(ErrorCode::kUsage, "--keep {}: no matrix has such a name (or an earlier rule took it)",
           options.keep[i].first);
  if (options.has_budget()) {
    const ExactModel exact(source, source_path, options.scratch, events);
    result.measured_kld = chooser.run(exact.path());
  }
  return result;
}

double gguf_bits_per_weight(const ModelSource& source,
                            const std::map<std::string, GgmlType>& types) {
  double bytes = 0, weights = 0;
  for (const SourceTensor& t : source.tensors()) {
    const auto found = types.find(t.name);
    bytes +=
        static_cast<double>(type_bytes(t, found == types.end() ? GgmlType::kF32 : found->second));
    weights += static_cast<double>(t.elements());
  }
  return 8 * bytes / weights;
}

}  // namespace lapidary
