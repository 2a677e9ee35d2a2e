// What stands beside the weights in every exported folder: config, tokenizer, chat template,
// generation settings, README.
#pragma once

#include <string>

#include "export/model_card.h"
#include "formats/lap.h"

namespace lapidary {

void write_folder_files(const LapReader& model, const std::string& folder,
                        const std::string& config_json, const ModelCard& card);

}  // namespace lapidary
