// One struct per group of options, in the order of --help.
#include "tools/cli/quantize_options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <map>

#include "formats/error.h"
#include "formats/file.h"

namespace lapidary {
namespace {

Code require_code(const std::string& text) {
  if (const auto code = parse_code(text)) return *code;
  fail(ErrorCode::kUsage,
       "code \"{}\": expected t6, t5, t4, t3, w8, w6, w5, w4, w3, w4x, w8x, bf16, f16 "
       "or f32",
       text);
}

}  // namespace

std::pair<std::string, std::string> split_keep(const std::string& rule, std::string_view expected) {
  const size_t equals = rule.rfind('=');
  if (equals == std::string::npos || equals == 0)
    fail(ErrorCode::kUsage, "--keep \"{}\": expected {}", rule, expected);
  return {rule.substr(0, equals), rule.substr(equals + 1)};
}

QuantizeOptions WeightOptions::resolve() const {
  QuantizeOptions options;
  if (!target.empty()) {
    const std::optional<Target> known = parse_target(target);
    if (!known) fail(ErrorCode::kUsage, "--for \"{}\": expected llama.cpp, vllm or mlx", target);
    options.target = *known;
  }
  options.weights = held_code(options.target, require_code(weights));
  for (const std::string& rule : keep) {
    const auto [pattern, code] = split_keep(rule, "PATTERN=CODE, for example *.o_proj.weight=w8");
    options.keep.emplace_back(pattern, held_code(options.target, require_code(code)));
  }
  options.allow_requantize = allow_requantize;
  options.rotate = !no_rotation;
  return options;
}

void add_weight_options(CLI::App& command, WeightOptions& options) {
  command
      .add_option("--weights", options.weights,
                  "Code of every matrix: t6 t5 t4 t3 w8 w6 w5 w4 w3 w4x w8x; of t3 and w3 an "
                  "embedding that is the head, too, has four bits")
      ->type_name("CODE")
      ->capture_default_str();
  command.add_option("--keep", options.keep, "Another code for matching tensors; may be repeated")
      ->type_name("PATTERN=CODE");
  command
      .add_option(
          "--for", options.target,
          "Only codes that llama.cpp, vllm or mlx hold, so that export rounds nothing again "
          "(w4 and w8 are w4x and w8x there)")
      ->type_name("RUNTIME");
  command.add_flag("--allow-requantize", options.allow_requantize,
                   "Quantize a source that is already quantized (errors add up)");
  command.add_flag("--no-rotation", options.no_rotation, "Do not rotate inputs (for comparison)");
  command.add_flag("--no-lattices", options.no_lattices,
                   "Round weights that lie on a 4-bit or 8-bit lattice like any others");
}

uint64_t parse_size(const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  static const std::map<std::string, double> kUnits{
      {"", 1},      {"B", 1},        {"kB", 1e3},     {"KB", 1e3},     {"MB", 1e6},    {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  std::string unit(end, text.data() + text.size());
  unit.erase(0, unit.find_first_not_of(' '));
  const auto found = kUnits.find(unit);
  const double bytes = found == kUnits.end() ? 0 : number * found->second;
  if (error != std::errc() || !(bytes >= 1 && bytes < 0x1p62))
    fail(ErrorCode::kUsage, "size \"{}\": expected a number with MB, MiB, GB or GiB, as in 16GiB",
         text);
  return static_cast<uint64_t>(bytes);
}

BudgetOptions BudgetText::resolve(Target target) const {
  if (!target_size.empty() + (target_bpw > 0) + (max_kld > 0) != 1)
    fail(ErrorCode::kUsage, "--target-size, --target-bpw and --max-kld: give one of the three");
  BudgetOptions budget;
  if (!target_size.empty()) budget.file_bytes = parse_size(target_size);
  if (target_bpw > 0) budget.bits_per_weight = target_bpw;
  if (max_kld > 0) budget.max_kld = max_kld;
  for (const std::string& code : codes) {
    budget.codes.push_back(held_code(target, require_code(code)));
    if (traits(budget.codes.back()).is_float)
      fail(ErrorCode::kUsage, "--codes {}: expected packed codes", code);
  }
  if (codes.empty() && target != Target::kLapidary) budget.codes = held_codes(target);
  budget.n_tokens = probe_tokens;
  budget.fisher = fisher;
  return budget;
}

void add_budget_options(CLI::App& command, BudgetText& text) {
  command
      .add_option("--target-size", text.target_size,
                  "Choose each tensor's code so that the whole file is at most so large")
      ->type_name("SIZE");
  command
      .add_option("--target-bpw", text.target_bpw,
                  "The same for bits per weight over all tensors, scales included")
      ->type_name("BITS")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--max-kld", text.max_kld,
                  "The smallest file whose KL divergence from the source is at most this")
      ->type_name("NATS")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--codes", text.codes,
                  "What a budget chooses among (default: w3 to w8 and t3 to t6)")
      ->delimiter(',')
      ->type_name("CODE,...");
  command
      .add_option("--probe-tokens", text.probe_tokens,
                  "Tokens on which a budget measures what each tensor costs")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  command
      .add_option("--fisher", text.fisher,
                  "Gradient statistics of finetune --fisher: a budget takes the costs from there "
                  "and probes nothing")
      ->type_name("FILE");
}

std::optional<CalibrationOptions> CalibrateOptions::resolve() const {
  if (text.empty()) {
    if (resume || no_sequential)
      fail(ErrorCode::kUsage, "--resume and --no-sequential need --calibrate");
    return std::nullopt;
  }
  CalibrationOptions options;
  if (text == "builtin") {
    options.text_name = text;
  } else {
    options.text = read_text(text);
    options.text_name = std::filesystem::path(text).filename();
    if (options.text.empty()) fail(ErrorCode::kBadData, "{}: the calibration text is empty", text);
  }
  options.max_tokens = max_tokens;
  options.context = context;
  options.memory_bytes = parse_size(memory);
  options.sequential = !no_sequential;
  options.resume = resume;
  return options;
}

void add_calibrate_options(CLI::App& command, CalibrateOptions& options) {
  command
      .add_option("--calibrate", options.text,
                  "Round with error feedback, measured on this text (JSON lines of conversations, "
                  "or plain), or on the built-in one")
      ->type_name("FILE|builtin");
  command.add_option("--calibrate-tokens", options.max_tokens, "Tokens of it at most")
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--calibrate-context", options.context, "Tokens of one window")
      ->type_name("C")
      ->capture_default_str();
  command.add_option("--memory", options.memory, "Memory that calibration may take")
      ->type_name("SIZE")
      ->capture_default_str();
  command.add_flag("--no-sequential", options.no_sequential,
                   "Calibrate each layer on the exact model's states, not on the quantized one's");
  command.add_flag("--resume", options.resume, "Go on with an interrupted calibration");
}

}  // namespace lapidary
