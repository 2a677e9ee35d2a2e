// The small files, straight from the .lap's metadata.
#include "export/folder_files.h"

#include <nlohmann/json.hpp>

#include "formats/file.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

// What transformers' AutoTokenizer asks for beside tokenizer.json.
std::string tokenizer_config(const LapReader& model) {
  const ModelConfig& config = model.metadata().config;
  const Json tokenizer = Json::parse(model.tokenizer_json());
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

}  // namespace

void write_folder_files(const LapReader& model, const std::string& folder,
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

}  // namespace lapidary
