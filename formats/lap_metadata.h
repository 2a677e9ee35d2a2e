// The metadata section of a .lap: one JSON object around the parts of ModelMetadata. The
// tokenizer's JSON is not part of it; it has a section of its own.
#pragma once

#include <string>
#include <string_view>

#include "formats/model_source.h"

namespace lapidary {

// Throws kBadData when a part that should be a JSON object is not, or text is not UTF-8.
std::string metadata_to_json(const ModelMetadata& metadata);
// Throws kBadData. Unknown keys are ignored, missing ones are empty, "config" must be there and
// valid.
ModelMetadata metadata_from_json(std::string_view text);

}  // namespace lapidary
