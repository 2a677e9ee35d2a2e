// The parser drops the vocabulary before it builds anything of it.
#include "formats/tokenizer_text.h"

#include <nlohmann/json.hpp>

namespace lapidary {

using Json = nlohmann::ordered_json;

std::string tokenizer_without_model(const std::string& text) {
  const auto keep = [](int depth, Json::parse_event_t event, Json& parsed) {
    return !(depth == 1 && event == Json::parse_event_t::key && parsed == "model");
  };
  const Json json = Json::parse(text, keep, /*allow_exceptions=*/false);
  return json.is_discarded() ? std::string() : json.dump();
}

}  // namespace lapidary
