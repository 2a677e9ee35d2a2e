// Writing the run's folder.
#include "finetune/output_folder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/file.h"
#include "formats/provenance.h"
#include "formats/safetensors.h"

namespace lapidary {
namespace {

template <class T>
std::span<const uint8_t> bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

std::string to_json_line(const LogLine& line) {
  const nlohmann::ordered_json json{
      {"step", line.step},        {"loss", line.loss},     {"grad_norm", line.gradient_norm},
      {"lr", line.learning_rate}, {"tokens", line.tokens}, {"general_tokens", line.general_tokens}};
  return json.dump() + "\n";
}

void name_for_peft(PeftConfig& config, const ModelMetadata& metadata) {
  const Provenance provenance = provenance_from_json(metadata.provenance);
  config.base_model_name = provenance.source_name;
  const bool has_towers =
      std::any_of(provenance.skipped.begin(), provenance.skipped.end(), [](const std::string& s) {
        return s.starts_with("vision_") || s.starts_with("audio_") || s.starts_with("embed_");
      });
  if (!has_towers) return;
  config.base_prefix = "model.language_model.";
  config.target_modules = {
      fmt::format(".*language_model\\..*\\.({})", fmt::join(config.target_modules, "|"))};
}

void write_output(const std::string& folder, bool overwrite, const RunOutput& output) {
  AtomicFolder target(folder, overwrite);
  const std::string at = target.temporary() + "/";
  write_peft(target.temporary(), output.adapter);
  write_text_atomically(at + "log.jsonl", output.log);
  write_text_atomically(at + "recipe.json", output.recipe + "\n");
  const auto n_ids = static_cast<int64_t>(output.probe_ids.size());
  const int64_t n_logits = static_cast<int64_t>(output.probe_logits.size()) / output.vocab_size;
  write_safetensors(
      at + "probe.safetensors",
      {{"ids", DType::kI32, {n_ids}, bytes_of(output.probe_ids)},
       {"logits", DType::kF32, {n_logits, output.vocab_size}, bytes_of(output.probe_logits)}},
      {{"format", "pt"}, {"text", kProbeText}});
  target.commit();
}

}  // namespace lapidary
