// The KV cache that a file asks for: per-layer codes and exact ends as JSON in its metadata.
#include "runtime/kv_choice.h"

#include <nlohmann/json.hpp>

#include "formats/error.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

KvOptions from_json(const Json& json) {
  KvOptions options;
  options.ends.sink = json.at("exact").at(0).get<int>();
  options.ends.tail = json.at("exact").at(1).get<int>();
  for (const Json& name : json.at("layers"))
    options.layers.push_back(kv_layer_code(name.get<std::string>()));
  return options;
}

}  // namespace

std::string kv_to_json(const ModelConfig& config, const KvOptions& options) {
  Json json{{"exact", {options.ends.sink, options.ends.tail}}, {"layers", Json::array()}};
  for (int l = 0; l < config.n_layers(); ++l)
    json["layers"].push_back(kv_name(layer_code(config, options, l)));
  return json.dump();
}

KvOptions kv_from_json(const ModelConfig& config, std::string_view text) {
  try {
    const Json json = Json::parse(text);
    const KvOptions options = json.empty() ? KvOptions() : from_json(json);
    check_kv(config, options);
    return options;
  } catch (const Json::exception& e) {
    fail(ErrorCode::kBadData, "{}", e.what());
  } catch (const Error& e) {
    fail(ErrorCode::kBadData, "{}", e.what());  // wrong bytes in a file are not wrong usage
  }
}

KvOptions kv_for(const std::optional<KvOptions>& asked, const ModelMetadata& metadata) {
  if (asked) return *asked;
  if (metadata.kv.empty()) return {};
  return with_context("the file's KV choice",
                      [&] { return kv_from_json(metadata.config, metadata.kv); });
}

}  // namespace lapidary
