// Key order is kept (ordered_json), so that text written by us comes back as it was given.
#include "formats/lap_metadata.h"

#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/json_guard.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

Json parse_object(std::string_view text, const std::string& what) {
  guard_json(text, what);  // also bounds the depth, for nlohmann's recursive dump()
  Json json = Json::parse(text);
  if (!json.is_object()) fail(ErrorCode::kBadData, "{}: expected a JSON object", what);
  return json;
}

Json object_or_empty(const std::string& text, const std::string& what) {
  return text.empty() ? Json::object() : parse_object(text, what);
}

std::string object_text(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return "{}";
  if (!found->is_object()) fail(ErrorCode::kBadData, "\"{}\": expected a JSON object", key);
  return found->dump();
}

}  // namespace

std::string metadata_to_json(const ModelMetadata& metadata) {
  Json json;
  json["config"] = parse_object(to_json(metadata.config), "config");
  json["chat_template"] = metadata.chat_template;
  json["generation_config"] = object_or_empty(metadata.generation_config, "generation_config");
  json["recipe"] = object_or_empty(metadata.recipe, "recipe");
  json["provenance"] = object_or_empty(metadata.provenance, "provenance");
  if (Json kv = object_or_empty(metadata.kv, "kv"); !kv.empty()) json["kv"] = std::move(kv);
  try {
    return json.dump();
  } catch (const Json::exception& e) {  // invalid UTF-8
    fail(ErrorCode::kBadData, "metadata: {}", e.what());
  }
}

ModelMetadata metadata_from_json(std::string_view text) {
  const Json json = parse_object(text, "JSON");
  ModelMetadata metadata;
  if (!json.contains("config")) fail(ErrorCode::kBadData, "\"config\" is missing");
  metadata.config = model_config_from_json(object_text(json, "config"));
  if (const auto found = json.find("chat_template"); found != json.end()) {
    if (!found->is_string()) fail(ErrorCode::kBadData, "\"chat_template\": expected a string");
    metadata.chat_template = found->get<std::string>();
  }
  metadata.generation_config = object_text(json, "generation_config");
  metadata.recipe = object_text(json, "recipe");
  metadata.provenance = object_text(json, "provenance");
  metadata.kv = object_text(json, "kv");
  return metadata;
}

}  // namespace lapidary
