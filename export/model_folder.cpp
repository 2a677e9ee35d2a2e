// The small files, straight from the .lap's metadata, and the order in which all is written.
#include "export/model_folder.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/file.h"
#include "formats/tokenizer_text.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

// What transformers' AutoTokenizer asks for beside tokenizer.json.
std::string tokenizer_config(const LapReader& model) {
  const ModelConfig& config = model.metadata().config;
  const Json tokenizer = Json::parse(tokenizer_without_model(model.tokenizer_json()));
  const auto content = [&](int32_t id) -> Json {
    if (id < 0) return nullptr;
    for (const Json& token : tokenizer.value("added_tokens", Json::array()))
      if (token.is_object() && token.value("id", -1) == id) return token.value("content", Json());
    return nullptr;
  };
  Json json;
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  json["bos_token"] = content(config.bos_id);
  json["eos_token"] = content(config.eos_ids.empty() ? -1 : config.eos_ids.front());
  json["pad_token"] = content(config.pad_id);
  json["clean_up_tokenization_spaces"] = false;
  json["model_max_length"] = config.max_context;
  return json.dump(2) + "\n";
}

void write_small_files(const LapReader& model, const std::string& folder,
                       const std::string& config_json, const ModelCard& card) {
  const ModelMetadata& metadata = model.metadata();
  const auto write = [&](const char* name, const std::string& text) {
    write_text_atomically(folder + "/" + name, text);
  };
  write("config.json", config_json);
  const std::string tokenizer = model.tokenizer_json();
  if (!tokenizer.empty()) {
    write("tokenizer.json", tokenizer);
    write("tokenizer_config.json", tokenizer_config(model));
  }
  if (!metadata.chat_template.empty()) write("chat_template.jinja", metadata.chat_template);
  if (!metadata.generation_config.empty() && metadata.generation_config != "{}")
    write("generation_config.json", Json::parse(metadata.generation_config).dump(2) + "\n");
  write("README.md", model_card(metadata, card));
}

bool is_float_type(const std::string& type) {
  return type == "bf16" || type == "f16" || type == "f32";
}

ModelCard complete_card(const LapReader& model, const std::string& path, const ModelFolder& folder,
                        ModelCard card) {
  card.title = std::filesystem::path(path).filename().string();
  card.library = folder.library;
  card.content_hash = model.content_hash();
  card.usage = folder.usage;
  const auto any_changed = [&](bool to_float) {
    return std::any_of(folder.report.tensors.begin(), folder.report.tensors.end(),
                       [&](const FolderReport::Tensor& t) {
                         return !t.exact && is_float_type(t.type) == to_float;
                       });
  };
  if (any_changed(false)) card.lossy_steps.push_back("weights were rounded to " + folder.integers);
  if (any_changed(true))
    card.lossy_steps.push_back(
        "quantized weights were written as bf16 of their dequantized values");
  card.notes.insert(card.notes.end(), folder.report.notes.begin(), folder.report.notes.end());
  return card;
}

}  // namespace

FolderReport write_model_folder(const LapReader& model, const std::string& path, ModelFolder folder,
                                ModelCard card, const FolderOptions& options,
                                const Events& events) {
  const auto start = std::chrono::steady_clock::now();
  FolderReport& report = folder.report;
  for (const FolderTensor& tensor : folder.tensors) report.bytes += folder_bytes(tensor);
  AtomicFolder output(path, options.overwrite);
  write_small_files(model, output.temporary(), folder.config_json,
                    complete_card(model, path, folder, std::move(card)));
  report.n_shards = write_shards(model, output.temporary(), folder.tensors, options,
                                 {{"format", folder.format}}, events);
  output.commit();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return std::move(report);
}

}  // namespace lapidary
