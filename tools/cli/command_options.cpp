// One wording for options that mean the same everywhere.
#include "tools/cli/command_options.h"

#include <CLI/CLI.hpp>

#include "formats/error.h"

namespace lapidary {

void add_output_options(CLI::App& command, OutputOptions& options) {
  command.add_flag("--json", options.json, "Print one JSON object on stdout, nothing else");
  command.add_flag("--quiet", options.quiet, "No progress on stderr");
}

void add_threads_option(CLI::App& command, int& n_threads) {
  command.add_option("--threads", n_threads, "Threads; 0: one per core")
      ->type_name("N")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

void add_kv_options(CLI::App& command, KvText& text) {
  command
      .add_option("--kv", text.kv,
                  "KV cache: off (bf16), f32, or kXvY with X and Y of 8, 4, 3 bits; default: the "
                  "file's choice, else off")
      ->type_name("CODE");
  add_kv_refinements(command, text);
}

void add_model_options(CLI::App& command, ModelOptions& options) {
  add_kv_options(command, options.kv);
  command
      .add_option("--activations", options.activations,
                  "Inputs of quantized matrices: int8 (rotated) or 16bit")
      ->type_name("TYPE")
      ->capture_default_str();
  command.add_option("--adapter", options.adapter, "PEFT folder with a LoRA adapter")
      ->type_name("DIR");
  add_threads_option(command, options.n_threads);
}

void add_kv_refinements(CLI::App& command, KvText& text) {
  command
      .add_option("--kv-exact", text.exact,
                  "First and last tokens that a packed cache keeps in 16 bits (64,256)")
      ->type_name("SINK,TAIL");
  command.add_option("--kv-sliding", text.sliding, "Sliding layers: off (16 bits) or k8v8")
      ->type_name("CODE");
  command
      .add_option(
          "--kv-global", text.global,
          "Global layers whose K is made from V: v8, v5, v4 (V alone is stored) or separate")
      ->type_name("CODE");
  command.add_flag("--force", text.force, "Allow more bits for V than for K");
}

void add_measure_options(CLI::App& command, TextOptions& text, int64_t& limit_items) {
  // Far above any use, and far below where sums of counts would overflow.
  const CLI::Range count(int64_t{0}, int64_t{1} << 40);
  command.add_option("--context", text.context, "Window length in tokens, BOS included")
      ->type_name("N")
      ->check(CLI::Range(2, 1 << 24))
      ->capture_default_str();
  command
      .add_option("--limit-tokens", text.limit_tokens,
                  "Keep the first N tokens of the text; 0: all")
      ->type_name("N")
      ->check(count);
  command.add_option("--limit-items", limit_items, "Keep the first N items of each task; 0: all")
      ->type_name("N")
      ->check(count);
}

ActivationType parse_activations(const std::string& text) {
  if (text == "int8") return ActivationType::kInt8;
  if (text == "16bit") return ActivationType::k16Bit;
  fail(ErrorCode::kUsage, "activations \"{}\": expected int8 or 16bit", text);
}

EngineScorerOptions ModelOptions::scorer_options() const {
  EngineScorerOptions options;
  options.engine.n_threads = n_threads;
  options.engine.activations = parse_activations(activations);
  options.kv = parse_kv(kv);
  options.adapter_folder = adapter;
  return options;
}

}  // namespace lapidary
