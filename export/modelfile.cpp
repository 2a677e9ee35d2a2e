// One Go template per grammar of turns, known by the words that the Jinja template writes.
#include "export/modelfile.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "formats/tokenizer_text.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;

struct Grammar {
  std::string_view word;  // in the Jinja template
  std::string_view go;
};
// BOS is the tokenizer's business. Gemma 3 has no system turn: its text opens the first user turn.
constexpr Grammar kGrammars[] = {
    {"<|turn>",
     R"({{- range .Messages }}<|turn>{{ if eq .Role "assistant" }}model{{ else }}{{ .Role }}{{ end }}
{{ .Content }}<turn|>
{{ end }}<|turn>model
)"},
    {"<start_of_turn>",
     R"({{- $system := "" }}{{ range .Messages }}{{ if eq .Role "system" }}{{ $system = .Content }}{{ else if eq .Role "user" }}<start_of_turn>user
{{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}{{ .Content }}<end_of_turn>
{{ else }}<start_of_turn>model
{{ .Content }}<end_of_turn>
{{ end }}{{ end }}<start_of_turn>model
)"},
    {"<|start_header_id|>",
     R"({{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>

{{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>

)"},
    {"<|im_start|>",
     R"({{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
)"}};

// Texts of the tokens that end an answer.
std::vector<std::string> stop_texts(const LapReader& model) {
  std::vector<std::string> texts;
  const std::string tokenizer = tokenizer_without_model(model.tokenizer_json());
  if (tokenizer.empty()) return texts;
  const Json json = Json::parse(tokenizer, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return texts;
  for (const int32_t id : model.metadata().config.eos_ids)
    for (const Json& token : json.value("added_tokens", Json::array()))
      if (token.is_object() && token.value("id", -1) == id)
        texts.push_back(token.value("content", ""));
  return texts;
}

std::string sampling(const std::string& generation_config) {
  std::string text;
  const Json json = Json::parse(generation_config, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return text;
  for (const char* key : {"temperature", "top_k", "top_p", "min_p", "repetition_penalty"}) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number()) continue;
    const bool penalty = std::string_view(key) == "repetition_penalty";
    text += fmt::format("PARAMETER {} {}\n", penalty ? "repeat_penalty" : key, found->dump());
  }
  return text;
}

}  // namespace

std::string ollama_modelfile(const LapReader& model, const std::string& gguf) {
  const ModelMetadata& metadata = model.metadata();
  std::string text = fmt::format("# ollama create NAME -f this file\nFROM ./{}\n", gguf);
  std::string_view go;
  for (const Grammar& grammar : kGrammars)
    if (go.empty() && metadata.chat_template.find(grammar.word) != std::string::npos)
      go = grammar.go;
  if (go.empty())
    text += "# No template: Ollama takes the chat template inside the GGUF, if it can read it.\n";
  else
    text += fmt::format("TEMPLATE \"\"\"{}\"\"\"\n", go);
  for (const std::string& stop : stop_texts(model))
    text += fmt::format("PARAMETER stop {}\n", Json(stop).dump());
  return text + sampling(metadata.generation_config);
}

}  // namespace lapidary
