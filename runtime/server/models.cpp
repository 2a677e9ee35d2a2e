// GET /v1/models and GET /v1/models/NAME: what may stand in "model".
#include <nlohmann/json.hpp>

#include "runtime/server/endpoint.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

Json model_object(const ModelEntry& entry) {
  Json out{{"id", entry.name},
           {"object", "model"},
           {"created", entry.created},
           {"owned_by", "lapidary"},
           {"is_loaded", entry.is_loaded},
           {"context", entry.context}};
  if (!entry.parent.empty()) out["parent"] = entry.parent;
  return out;
}

}  // namespace

void list_models(const Call& call) {
  Json data = Json::array();
  for (const ModelEntry& entry : call.models.list()) data.push_back(model_object(entry));
  call.respond(Json{{"object", "list"}, {"data", std::move(data)}}.dump());
}

void show_model(const Call& call) {
  const std::string name = call.request.path.substr(std::string_view("/v1/models/").size());
  for (const ModelEntry& entry : call.models.list())
    if (entry.name == name) return call.respond(model_object(entry).dump());
  throw ApiError({404, "this server has no model of that name; GET /v1/models lists them", "model",
                  "model_not_found"});
}

}  // namespace lapidary::server
