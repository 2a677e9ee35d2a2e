// The options of `quantize`, group by group: declared here, resolved into what the library takes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "quantize/budget.h"
#include "quantize/quantize.h"

namespace CLI {
class App;
}

namespace lapidary {

// Which code a tensor gets, and how it is rounded: --weights, --keep, --for, --allow-requantize,
// --no-rotation, --no-lattices.
struct WeightOptions {
  std::string weights = "w4", target;
  std::vector<std::string> keep;
  bool allow_requantize = false, no_rotation = false, no_lattices = false;
  // Throws kUsage for unknown codes, codes that the target cannot hold, and rules that are no
  // rules.
  QuantizeOptions resolve() const;
};
// The pattern and the code of a rule of --keep. Throws kUsage, naming what was `expected`, as
// "PATTERN=CODE, for example ...".
std::pair<std::string, std::string> split_keep(const std::string& rule, std::string_view expected);
void add_weight_options(CLI::App& command, WeightOptions& options);

// A budget to share out: --target-size, --target-bpw, --max-kld; how: --codes, --probe-tokens.
struct BudgetText {
  std::string target_size;
  double target_bpw = 0, max_kld = 0;
  std::vector<std::string> codes;
  int64_t probe_tokens = 2048;
  std::string fisher;
  bool given() const { return !target_size.empty() || target_bpw > 0 || max_kld > 0; }
  // Throws kUsage for more than one of them and for a size that is none. REQUIRES: given().
  BudgetOptions resolve(Target target) const;
};
void add_budget_options(CLI::App& command, BudgetText& text);

// "16GiB", "1.5GB", "700MiB", "5000000": bytes. Throws kUsage.
uint64_t parse_size(const std::string& text);

// How a calibrated run measures: --calibrate and its relatives, --memory, --resume.
struct CalibrateOptions {
  std::string text;  // a file, or "builtin"; empty: no calibration
  int64_t max_tokens = 32768;
  int context = 512;
  std::string memory = "16GiB";
  bool no_sequential = false, resume = false;
  // Reads the text. Throws kUsage for refinements without --calibrate, and what reading throws.
  std::optional<CalibrationOptions> resolve() const;
};
void add_calibrate_options(CLI::App& command, CalibrateOptions& options);

}  // namespace lapidary
