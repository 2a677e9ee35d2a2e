// One struct per group of options, in the order of --help.
#include "tools/cli/quantize_options.h"

#include <CLI/CLI.hpp>

#include "formats/error.h"

namespace lapidary {
namespace {

Code require_code(const std::string& text) {
  if (const auto code = parse_code(text)) return *code;
  fail(ErrorCode::kUsage, "code \"{}\": expected w8, w6, w5, w4, w3, w4x, w8x, bf16, f16 or f32",
       text);
}

}  // namespace

QuantizeOptions WeightOptions::resolve() const {
  QuantizeOptions options;
  options.weights = require_code(weights);
  for (const std::string& rule : keep) {
    const size_t equals = rule.rfind('=');
    if (equals == std::string::npos || equals == 0)
      fail(ErrorCode::kUsage,
           "--keep \"{}\": expected PATTERN=CODE, for example *.o_proj.weight=w8", rule);
    options.keep.emplace_back(rule.substr(0, equals), require_code(rule.substr(equals + 1)));
  }
  options.allow_requantize = allow_requantize;
  options.rotate = !no_rotation;
  return options;
}

void add_weight_options(CLI::App& command, WeightOptions& options) {
  command.add_option("--weights", options.weights, "Code of every matrix: w8 w6 w5 w4 w3 w4x w8x")
      ->type_name("CODE")
      ->capture_default_str();
  command.add_option("--keep", options.keep, "Another code for matching tensors; may be repeated")
      ->type_name("PATTERN=CODE");
  command.add_flag("--allow-requantize", options.allow_requantize,
                   "Quantize a source that is already quantized (errors add up)");
  command.add_flag("--no-rotation", options.no_rotation, "Do not rotate inputs (for comparison)");
}

}  // namespace lapidary
