// Reading of the files beside the weights.
#include "convert/companions.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "convert/config_reader.h"
#include "formats/error.h"
#include "formats/file.h"
#include "formats/json_guard.h"
#include "formats/tokenizer_text.h"

namespace lapidary {
namespace {

// Real ones: tokenizer.json 33 MB (Gemma), the others below 50 kB.
constexpr uint64_t kLargestTokenizer = uint64_t{256} << 20;
constexpr uint64_t kLargestText = uint64_t{8} << 20;

using Json = nlohmann::ordered_json;

std::optional<std::string> text_if_there(const std::string& folder, const char* name) {
  const std::string path = folder + "/" + name;
  if (!path_exists(path)) return std::nullopt;
  return read_text(path, kLargestText);
}

Json parse_object(const std::string& text, const char* name) {
  guard_json(text, name);
  Json json = Json::parse(text);
  if (!json.is_object()) fail(ErrorCode::kBadData, "{}: not a JSON object", name);
  return json;
}

// "chat_template" of tokenizer_config.json or chat_template.json: one text, or a list of named
// ones.
std::string template_in(const Json& json) {
  const auto found = json.find("chat_template");
  if (found == json.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) return {};
  for (const Json& entry : *found) {
    if (entry.is_object() && entry.value("name", Json()) == "default" &&
        entry.contains("template") && entry["template"].is_string())
      return entry["template"].get<std::string>();
  }
  return {};
}

// Special tokens are written as a text or as an object with "content".
std::string token_text(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return {};
  const Json& value = found->is_object() ? found->value("content", Json()) : *found;
  return value.is_string() ? value.get<std::string>() : std::string();
}

int32_t added_token_id(const Json& tokenizer, const std::string& content) {
  const auto tokens = tokenizer.find("added_tokens");
  if (content.empty() || tokens == tokenizer.end() || !tokens->is_array()) return -1;
  for (const Json& token : *tokens) {
    if (!token.is_object() || token.value("content", Json()) != content) continue;
    const Json id = token.value("id", Json());
    if (id.is_number_integer() && id >= 0 && id < (1 << 24)) return id.get<int32_t>();
  }
  return -1;
}

// transformers puts BOS in front when add_bos_token says so, whatever tokenizer.json has;
// tokenizers alone follows the post-processor. Writing it there makes the two agree.
std::string with_bos(const std::string& text, const Json& tokenizer, const std::string& bos,
                     int32_t bos_id) {
  const auto post = tokenizer.find("post_processor");
  if (bos_id < 0 || (post != tokenizer.end() && !post->is_null())) return text;
  nlohmann::json whole = nlohmann::json::parse(text);  // look-ups of ordered_json are linear
  const auto sequence = [](const char* id, int type) {
    return Json{{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  const Json first = Json{{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
  whole["post_processor"] =
      Json{{"type", "TemplateProcessing"},
           {"single", Json::array({first, sequence("A", 0)})},
           {"pair", Json::array({first, sequence("A", 0), sequence("B", 1)})},
           {"special_tokens", {{bos, {{"id", bos}, {"ids", {bos_id}}, {"tokens", {bos}}}}}}};
  return whole.dump();
}

std::string read_tokenizer(const std::string& folder, const Json& tokenizer_config,
                           ModelMetadata* metadata) {
  const std::string path = folder + "/tokenizer.json";
  if (!path_exists(path) && metadata->config.is_assistant()) return {};
  if (!path_exists(path))
    fail(ErrorCode::kNotFound,
         "tokenizer.json is missing; copy it from the model's page, or save it with transformers' "
         "AutoTokenizer when there is only a tokenizer.model");
  std::string text = read_text(path, kLargestTokenizer);
  const Json tokenizer =
      Json::parse(tokenizer_without_model(text), nullptr, /*allow_exceptions=*/false);
  if (!tokenizer.is_object())
    fail(ErrorCode::kBadData, "tokenizer.json: not a JSON object; download the file again");
  const std::string bos = token_text(tokenizer_config, "bos_token");
  const int32_t bos_id = added_token_id(tokenizer, bos);
  if (metadata->config.bos_id < 0) metadata->config.bos_id = bos_id;
  if (tokenizer_config.value("add_bos_token", Json()) == true)
    text = with_bos(text, tokenizer, bos, bos_id);
  return text;
}

void read_generation_config(const std::string& folder, ModelMetadata* metadata) {
  metadata->generation_config = "{}";
  const auto text = text_if_there(folder, "generation_config.json");
  if (!text) return;
  metadata->generation_config = parse_object(*text, "generation_config.json").dump();
  std::vector<int32_t> eos = ConfigReader(*text, "generation_config.json").ids("eos_token_id");
  for (const int32_t id : metadata->config.eos_ids)
    if (std::find(eos.begin(), eos.end(), id) == eos.end()) eos.push_back(id);
  metadata->config.eos_ids = std::move(eos);
}

}  // namespace

std::string read_companions(const std::string& folder, ModelMetadata* metadata) {
  const auto config_text = text_if_there(folder, "tokenizer_config.json");
  const Json tokenizer_config =
      config_text ? parse_object(*config_text, "tokenizer_config.json") : Json::object();
  std::string tokenizer = read_tokenizer(folder, tokenizer_config, metadata);
  read_generation_config(folder, metadata);

  // transformers' order: the file of its own, then the older places.
  if (const auto jinja = text_if_there(folder, "chat_template.jinja")) {
    metadata->chat_template = *jinja;
  } else if (const auto json = text_if_there(folder, "chat_template.json")) {
    metadata->chat_template = template_in(parse_object(*json, "chat_template.json"));
  } else {
    metadata->chat_template = template_in(tokenizer_config);
  }
  return tokenizer;
}

}  // namespace lapidary
