// The small files beside the weights: tokenizer, chat template, generation settings.
//
// Nothing is compiled here; texts go into the .lap as they are, except that tokenizer_config.json's
// add_bos_token is written into the tokenizer's post-processor, where every reader looks for it.
#pragma once

#include <string>

#include "formats/model_source.h"

namespace lapidary {

// Returns the text of tokenizer.json. Fills chat_template and generation_config of `metadata`,
// merges the stop tokens of generation_config.json into config.eos_ids (in front), and fills
// config.bos_id when config.json had none. Throws kNotFound when tokenizer.json is missing (an
// assistant may do without: empty), kBadData for broken files.
std::string read_companions(const std::string& folder, ModelMetadata* metadata);

}  // namespace lapidary
