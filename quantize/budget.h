// From a budget to codes: probes the model's tensors, predicts what every code of each would cost,
// and shares out the bits.
//
//   1  the source is rounded to the probe code in a scratch file (an HF folder is first written as
//      a .lap), by quantize() itself, so calibrated if the options say so;
//   2  each tensor's cost at the output is measured with that tensor alone rounded (sensitivity.h);
//   3  other codes cost in proportion to their rounding error (code_errors.h);
//   4  codes are chosen within the budget (allocation.h);
//      instead of 1 and 2, gradient statistics may tell of all tensors at once (fisher_costs.h);
//   5  under a KLD limit the choice is measured on other tokens and, where the prediction was
//      wrong, made again with predictions scaled by what was measured.
//
// Where experts are chosen, costs have a second part: choices that flip. It grows with the error's
// square root, and flips of different tensors hardly add up. A second probe tells the parts apart.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/events.h"
#include "quantize/quantize.h"

namespace lapidary {

// Exactly one of the three is set.
struct BudgetOptions {
  std::optional<uint64_t> file_bytes;     // the whole .lap
  std::optional<double> bits_per_weight;  // over all tensors, scales and padding included
  std::optional<double> max_kld;          // nats per token
  std::vector<Code> codes;                // to choose among; empty: allocatable_codes()
  std::string text;                       // to measure on; empty: the built-in calibration text
  int64_t n_tokens = 2048;                // of it, and as many others for checks
  std::string fisher;                     // file of gradient statistics instead of probes, or empty
  std::string scratch;                    // scratch files are this path with something appended
};

struct TensorCost {
  std::string name;
  Code code;  // chosen
  uint64_t bytes = 0;
  double kld = 0;  // predicted, of this tensor alone
};

struct CurvePoint {
  double bits_per_weight = 0;
  double kld = 0;  // predicted
};

struct Allocation {
  // Exact names and codes: to stand in front of QuantizeOptions::keep.
  std::vector<std::pair<std::string, Code>> codes;
  std::vector<TensorCost> tensors;  // those that are packed, in file order
  double predicted_kld = 0;         // corrected, where it was measured
  std::optional<double> measured_kld;
  double bits_per_weight = 0;
  std::vector<CurvePoint> curve;                     // allocated, sizes rising
  std::vector<std::pair<Code, CurvePoint>> uniform;  // one code for everything
};

// Tokens of `text`, or of the built-in text when it is empty, by the tokenizer of a .lap. Throws
// kBadData when it has none.
std::vector<int32_t> budget_tokens(const std::string& base, const std::string& text);

// `source_path` names the .lap or folder that `source` reads. Throws kUsage for a budget below the
// smallest codes or a limit that the best codes exceed, saying what is possible, and for a source
// that is packed already.
Allocation allocate(const ModelSource& source, const std::string& source_path,
                    const QuantizeOptions& options, const BudgetOptions& budget,
                    const Events& events);

}  // namespace lapidary
