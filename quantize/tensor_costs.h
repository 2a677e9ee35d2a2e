// What every code of every tensor would cost at the output, from one probe of each tensor.
//
//   kld(code) = quadratic * error(code)
//
// because the divergence is quadratic in the weights' error at 3 bits and more: measured at w3, w4,
// w5 and w6 one constant per tensor fits all within a few percent (docs/quantization.md). Where
// experts are chosen there is a second part,
//
//   + flips * sqrt(error(code)),
//
// because a small error flips few choices, each at a price of its own. Flips of many tensors
// together cost the root of their sum of squares, not their sum: a choice flips once.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "formats/fisher.h"
#include "quantize/allocation.h"
#include "quantize/output_divergence.h"
#include "quantize/quantize.h"

namespace lapidary {

struct TensorCosts {
  std::string name;
  std::optional<Code> fixed;        // a pattern of the user's: the only code below
  double quadratic = 0, flips = 0;  // nats per relative squared error, and per its root
  std::map<Code, double> errors;    // relative squared error of plain rounding
  std::map<Code, uint64_t> bytes;
  // `code`, or what a tensor too narrow for it gets instead: the scalar code of as many bits.
  Code nearest(Code code) const;
  double alone(Code code) const;  // predicted divergence of this tensor alone
  // Flips add up by squares: of all tensors together they cost the root of this sum.
  double flip_square(double error) const { return flips * flips * error; }
  // Nats per relative squared error, near a choice whose flip squares sum up to `squares` = R^2:
  // this tensor's share of R is its own square over 2 R, proportional to its error like the rest.
  double slope_near(double squares) const;
};

// Divergence of all tensors together; errors[i] is the error of costs[i], codes[i] its code.
double predict(const std::vector<TensorCosts>& costs, const std::vector<double>& errors);
double predict(const std::vector<TensorCosts>& costs, const std::vector<Code>& codes);

// Indices of tensors that must have one code: what vLLM fuses, if it is the target, else each
// alone. All of one have a code in common; partners that the user keeps in different codes are
// apart.
std::vector<std::vector<size_t>> tied_tensors(const std::vector<TensorCosts>& costs, Target target);

// Codes that a budget chooses among: all packed ones but those that exist to import lattices.
std::vector<Code> allocatable_codes();

struct ProbeOptions {
  std::string base;             // .lap with the exact weights
  std::string scratch;          // prefix of scratch files
  std::vector<Code> codes;      // whose costs are wanted
  std::vector<int32_t> tokens;  // to measure on; probes take one half of them, checks the other
  int64_t n_tokens = 2048;      // of each half
  // Gradient statistics that stand for the probes; null: probe. They tell nothing of flips.
  const FisherStatistics* fisher = nullptr;
};

// One entry per tensor that will be packed, in file order. Rounds to the probe code, or to what a
// pattern of options.keep says, and as `options` say otherwise. Throws as quantize() and
// windows_of_tokens().
std::vector<TensorCosts> measure_costs(const ModelSource& source, const QuantizeOptions& options,
                                       const ProbeOptions& probe, const Events& events);

// Divergence of probe.base with all its matrices taken from `rounded`, a .lap of the same model, on
// windows that the probes did not see.
double measure_file(const std::string& rounded, const ProbeOptions& probe, int n_threads,
                    const Events& events);
// The same of the model rounded as `options` say.
double measure_choice(const ModelSource& source, const QuantizeOptions& options,
                      const ProbeOptions& probe, const Events& events);

}  // namespace lapidary
