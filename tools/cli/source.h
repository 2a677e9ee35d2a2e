// Opens what a user names: a Hugging Face folder, a .lap or a GGUF file as one ModelSource, a JSON
// file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "formats/model_source.h"

namespace lapidary {

std::unique_ptr<ModelSource> open_source(const std::string& path);
bool is_gguf(const std::string& path);  // by its first bytes; false when it cannot be read

// The text of a JSON file. Throws kBadData, naming the file, when it is not one JSON value.
std::string read_json(const std::string& path);

// Peak resident memory of this process in bytes (VmHWM).
uint64_t peak_rss_bytes();

}  // namespace lapidary
