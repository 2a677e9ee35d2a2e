// A model as a Hugging Face folder: config.json, sharded safetensors, tokenizer, chat template,
// generation settings, and a README that says what was done.
//
// Float tensors keep their bits. Quantized ones are written as bf16 of their dequantized values;
// the report and the README say so. Streams; the folder appears whole or not at all.
#pragma once

#include <string>

#include "export/folder_writer.h"
#include "export/hf_config.h"
#include "export/model_card.h"
#include "formats/events.h"
#include "formats/lap.h"

namespace lapidary {

struct HfExportOptions {
  HfDialect dialect = HfDialect::kTransformers5;
  FolderOptions folder;
  ModelCard card;  // what the caller knows; the rest is filled in
};

// Throws kUsage when `folder` exists and is not to be replaced; kBadData when the family's config
// cannot describe the model; kIo.
FolderReport export_hf(const LapReader& model, const std::string& folder,
                       const HfExportOptions& options, const Events& events);

}  // namespace lapidary
