// Reading and writing the provenance object. Unknown keys are dropped: it is a note, not a
// contract.
#include "formats/provenance.h"

#include <nlohmann/json.hpp>

#include "formats/error.h"

namespace lapidary {
namespace {

const std::string kUnknownHash(32, '0');

std::string text_at(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::vector<std::string> texts_at(const nlohmann::json& object, const char* key) {
  std::vector<std::string> texts;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) return texts;
  for (const auto& item : *found)
    if (item.is_string()) texts.push_back(item.get<std::string>());
  return texts;
}

}  // namespace

std::string to_json(const Provenance& p) {
  nlohmann::ordered_json json;
  json["source"]["kind"] = p.source_kind;
  json["source"]["name"] = p.source_name;
  json["source"]["content_hash"] = p.source_hash.empty() ? kUnknownHash : p.source_hash;
  json["tool"] = p.tool;
  json["lossy_steps"] = p.lossy_steps;
  json["skipped"] = p.skipped;
  if (!p.license.empty()) json["license"] = p.license;
  // A folder's name may hold any bytes; `replace` keeps the text valid UTF-8.
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Provenance provenance_from_json(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) fail(ErrorCode::kBadData, "provenance: not a JSON object");
  Provenance p;
  const auto source = json.find("source");
  if (source != json.end() && source->is_object()) {
    p.source_kind = text_at(*source, "kind");
    p.source_name = text_at(*source, "name");
    p.source_hash = text_at(*source, "content_hash");
    if (p.source_hash == kUnknownHash) p.source_hash.clear();
  }
  p.tool = text_at(json, "tool");
  p.lossy_steps = texts_at(json, "lossy_steps");
  p.skipped = texts_at(json, "skipped");
  const auto license = json.find("license");
  if (license != json.end() && license->is_object())
    for (const auto& [key, value] : license->items())
      if (value.is_string()) p.license[key] = value.get<std::string>();
  return p;
}

}  // namespace lapidary
