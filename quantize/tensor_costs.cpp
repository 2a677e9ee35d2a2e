// Probing, and the arithmetic of costs.
#include "quantize/tensor_costs.h"

#include <algorithm>
#include <cmath>

#include "formats/fused_linears.h"
#include "quantize/code_errors.h"
#include "quantize/fisher_costs.h"
#include "quantize/lattice.h"
#include "quantize/scratch_model.h"
#include "quantize/sensitivity.h"
#include "quantize/tensor_plan.h"

namespace lapidary {
namespace {

// Large enough to stand far above noise, small enough to be quadratic.
Code first_probe(const QuantizeOptions& options) { return held_code(options.target, Code::kW4); }
// Nine times less error (or more, where the target holds no w6): where flips are, they show as a
// cost that falls too slowly.
Code second_probe(const QuantizeOptions& options) {
  return options.target == Target::kLapidary ? Code::kW6 : Code::kW8x;
}

bool chooses_experts(const ModelConfig& config) {
  return std::any_of(config.layers.begin(), config.layers.end(),
                     [](const LayerConfig& layer) { return layer.n_experts > 0; });
}

// Everything that may be chosen for gets `code`, routers too; what the user keeps matches first.
QuantizeOptions with_code(const QuantizeOptions& options, const std::vector<TensorCosts>& costs,
                          Code code) {
  QuantizeOptions probe = options;
  probe.weights = code;
  for (const TensorCosts& t : costs) probe.keep.emplace_back(t.name, code);
  return probe;
}

QuantizeOptions for_scratch(QuantizeOptions options) {
  if (options.calibration) options.calibration = options.calibration->for_scratch();
  return options;
}

std::vector<Sensitivity> probe_all(const ModelSource& source, const QuantizeOptions& options,
                                   const ProbeOptions& probe, const std::vector<TensorCosts>& costs,
                                   Code code, const Events& events) {
  ScratchModel rounded(probe.scratch);
  quantize(source, rounded.path(), for_scratch(with_code(options, costs, code)), events);
  ModelOverlay overlay(probe.base, rounded.path());
  std::vector<std::string> names;
  for (const TensorCosts& t : costs) names.push_back(t.name);
  return measure_sensitivity(
      overlay, windows_of_tokens(overlay.model()->config(), probe.tokens, probe.n_tokens, false),
      names, options.n_threads, events);
}

double slope(double kld, double error) { return error > 0 ? kld / error : 0; }

void fit_one(const Sensitivity& first, Code probe, TensorCosts* t) {
  t->quadratic = slope(first.kld, t->errors.at(t->fixed.value_or(probe)));
}

// quadratic * e + flips * sqrt(e) through both probes, neither part negative.
void fit_two(const Sensitivity& first, const Sensitivity& second, Code probe, Code other,
             TensorCosts* t) {
  const double e1 = t->errors.at(t->fixed.value_or(probe));
  const double e2 = t->errors.at(t->fixed.value_or(other));
  if (!(e1 > e2 && e2 > 0)) {
    fit_one(first, probe, t);
    return;
  }
  t->flips =
      std::max(0.0, (second.kld / e2 - first.kld / e1) / (1 / std::sqrt(e2) - 1 / std::sqrt(e1)));
  t->quadratic = (first.kld - t->flips * std::sqrt(e1)) / e1;
  if (t->quadratic >= 0) return;
  t->quadratic = 0;
  t->flips = first.kld / std::sqrt(e1);
}

}  // namespace

Code TensorCosts::nearest(Code code) const {
  if (errors.contains(code)) return code;
  for (const auto& [other, error] : errors)
    if (traits(other).bits == traits(code).bits && !traits(other).is_trellis) return other;
  return errors.begin()->first;
}

double TensorCosts::alone(Code code) const {
  const double error = errors.at(code);
  return quadratic * error + flips * std::sqrt(error);
}

double TensorCosts::slope_near(double squares) const {
  const double price = squares > 0 ? 0.5 / std::sqrt(squares) : 0;
  return quadratic + price * flips * flips;
}

double predict(const std::vector<TensorCosts>& costs, const std::vector<double>& errors) {
  double kld = 0, squares = 0;
  for (size_t i = 0; i < costs.size(); ++i) {
    kld += costs[i].quadratic * errors[i];
    squares += costs[i].flip_square(errors[i]);
  }
  return kld + std::sqrt(squares);
}

double predict(const std::vector<TensorCosts>& costs, const std::vector<Code>& codes) {
  std::vector<double> errors;
  for (size_t i = 0; i < costs.size(); ++i) errors.push_back(costs[i].errors.at(codes[i]));
  return predict(costs, errors);
}

std::vector<std::vector<size_t>> tied_tensors(const std::vector<TensorCosts>& costs,
                                              Target target) {
  const auto share_a_code = [&](const std::vector<size_t>& unit, size_t other) {
    return std::any_of(costs[other].bytes.begin(), costs[other].bytes.end(), [&](const auto& b) {
      return std::all_of(unit.begin(), unit.end(),
                         [&](size_t i) { return costs[i].bytes.contains(b.first); });
    });
  };
  std::vector<std::vector<size_t>> units;
  std::map<std::string, size_t> unit_of;
  for (size_t i = 0; i < costs.size(); ++i) {
    const std::string fused =
        target == Target::kVllm ? fused_linears(costs[i].name) : std::string();
    const auto known = unit_of.find(fused);
    if (known != unit_of.end() && share_a_code(units[known->second], i)) {
      units[known->second].push_back(i);
    } else {
      if (!fused.empty()) unit_of[fused] = units.size();
      units.push_back({i});
    }
  }
  return units;
}

std::vector<Code> allocatable_codes() {
  std::vector<Code> codes;
  for (int i = 0; i < kCodeCount; ++i) {
    const Code code = static_cast<Code>(i);
    if (!traits(code).is_float && !imports_lattices(code)) codes.push_back(code);
  }
  return codes;
}

std::vector<TensorCosts> measure_costs(const ModelSource& source, const QuantizeOptions& options,
                                       const ProbeOptions& probe, const Events& events) {
  const std::vector<Code>& all = probe.codes;
  const Code one = first_probe(options), two = second_probe(options);
  std::map<Code, std::vector<LapTensor>> plans;  // patterns of the user's come first
  for (const Code code : all) {
    QuantizeOptions uniform = options;
    uniform.keep.emplace_back("*", code);
    plans[code] = plan_tensors(source, uniform);
  }
  const std::vector<LapTensor>& plan = plans[all.front()];
  ThreadPool pool(options.n_threads);
  std::vector<TensorCosts> costs;
  for (size_t i = 0; i < plan.size(); ++i) {
    if (traits(plan[i].code).is_float) continue;
    events.poll();
    TensorCosts& t = costs.emplace_back();
    t.name = plan[i].name;
    if (is_kept(t.name, options)) t.fixed = plan[i].code;
    for (const Code code : all)
      if (plans[code][i].code == t.fixed.value_or(code))
        t.bytes[plans[code][i].code] = plans[code][i].bytes;
    std::vector<Code> codes;
    for (const auto& [code, bytes] : t.bytes) codes.push_back(code);
    std::vector<Code> measured = codes;
    for (const Code code : {one, two})
      if (!t.fixed && !t.bytes.contains(code)) measured.push_back(code);
    t.errors = code_errors(source, i, measured, options, pool);
    if (probe.fisher) t.quadratic = fisher_cost(source, i, *probe.fisher);
    if (t.fixed) continue;
    if (const auto exact = lattice_code(source, i)) {
      LapTensor entry = plan[i];
      entry.code = *exact;
      t.errors[*exact] = 0;
      t.bytes[*exact] = stored_bytes(entry);
    }
  }
  if (probe.fisher) return costs;
  const std::vector<Sensitivity> first = probe_all(source, options, probe, costs, one, events);
  if (!chooses_experts(source.metadata().config)) {
    for (size_t i = 0; i < costs.size(); ++i) fit_one(first[i], one, &costs[i]);
    return costs;
  }
  const std::vector<Sensitivity> second = probe_all(source, options, probe, costs, two, events);
  for (size_t i = 0; i < costs.size(); ++i) fit_two(first[i], second[i], one, two, &costs[i]);
  return costs;
}

double measure_file(const std::string& rounded, const ProbeOptions& probe, int n_threads,
                    const Events& events) {
  ModelOverlay overlay(probe.base, rounded);
  OutputDivergence output(
      overlay.model(),
      windows_of_tokens(overlay.model()->config(), probe.tokens, probe.n_tokens, true), n_threads,
      events);
  for (const SourceTensor& t : overlay.model()->file().tensors()) overlay.replace(t.name);
  return output.kld(-1);
}

double measure_choice(const ModelSource& source, const QuantizeOptions& options,
                      const ProbeOptions& probe, const Events& events) {
  ScratchModel rounded(probe.scratch);
  quantize(source, rounded.path(), for_scratch(options), events);
  return measure_file(rounded.path(), probe, options.n_threads, events);
}

}  // namespace lapidary
