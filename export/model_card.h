// The README.md of what was exported: what the files are, what was made of which source, every
// lossy step, the licence, the verdict of `lapidary verify`.
#pragma once

#include <string>
#include <vector>

#include "formats/model_source.h"

namespace lapidary {

struct ModelCard {
  std::string title;                     // the model's name
  std::string library;                   // "transformers", for the page's metadata block
  std::string usage;                     // Markdown: how to load the files
  std::string content_hash;              // of the .lap that was exported
  std::vector<std::string> lossy_steps;  // of this export
  std::vector<std::string> notes;        // Markdown: what else a reader should know
  std::string verify_report;             // JSON of `verify --json`; empty: none
};
// Throws kBadData when the report is not one of `lapidary verify`.
std::string model_card(const ModelMetadata& metadata, const ModelCard& card);

}  // namespace lapidary
