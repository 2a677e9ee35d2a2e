// A whole exported folder: the planned tensors, and what stands beside the weights in every one:
// config, tokenizer, chat template, generation settings, README.
//
// A target decides what each tensor becomes and how its config says so; the rest is the same for
// all. The folder appears whole or not at all.
#pragma once

#include <string>
#include <vector>

#include "export/folder_writer.h"
#include "export/model_card.h"
#include "formats/lap.h"

namespace lapidary {

struct ModelFolder {
  std::vector<FolderTensor> tensors;
  FolderReport report;  // its tensors and notes; the writer fills in the rest
  std::string config_json;
  std::string library;   // whose folder it is, for the README's metadata block
  std::string usage;     // Markdown: how to load the files
  std::string integers;  // what weights were rounded to, where they were: "MLX's affine integers"
  std::string format = "pt";  // who wrote the tensors, in safetensors' own metadata
};

// `card`: the caller's notes and verdict; title, library, usage and lossy steps are added. Throws
// kUsage for a folder that exists, kBadData for damaged weights, kIo, kInterrupted.
FolderReport write_model_folder(const LapReader& model, const std::string& path, ModelFolder folder,
                                ModelCard card, const FolderOptions& options, const Events& events);

}  // namespace lapidary
