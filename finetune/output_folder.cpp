// Writing the run's folder.
#include "finetune/output_folder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "finetune/run_log.h"
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

bool is_unfinished_run(const std::string& folder) {
  return path_exists(folder + "/checkpoint") ||
         (path_exists(folder + "/log.jsonl") && !path_exists(folder + "/adapter_config.json"));
}

void remove_left_overs(const std::string& folder) {
  const auto path = std::filesystem::path(folder).lexically_normal();
  const auto target = path.has_filename() ? path : path.parent_path();
  const std::string prefix = target.filename().string() + ".tmp-";
  const auto parent = target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it(parent, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(prefix) && name.size() > prefix.size() &&
        name.find_first_not_of("0123456789", prefix.size()) == std::string::npos)
      found.push_back(it->path());
  }
  for (const auto& left_over : found) std::filesystem::remove_all(left_over, error);
}

void write_output(const std::string& folder, bool overwrite, const RunOutput& output) {
  AtomicFolder target(folder, overwrite);
  const std::string at = target.temporary() + "/";
  write_peft(target.temporary(), output.adapter);
  write_text_atomically(at + "log.jsonl", output.log);
  write_text_atomically(at + kEventFile, output.events);
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
