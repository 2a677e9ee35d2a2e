// A Hugging Face model folder as a ModelSource: config, tokenizer, safetensors, canonical names.
//
// Supported: Gemma 4 (both config dialects; composite layout: the text model is taken, towers are
// named in skipped()), Gemma 3 text, Llama 3.x, Qwen3 dense. Each family is one file that turns
// config.json into a ModelConfig and lists the tensors it expects. A config key that would change
// the arithmetic and is unknown is an Error; keys without influence stand on a reviewed list. All
// tensors are checked (missing, extra, shape, dtype, duplicates) before the first byte is written.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/model_source.h"

namespace lapidary {

class HfSource : public ModelSource {
 public:
  // `config_file`: name inside the folder, normally config.json.
  static std::unique_ptr<HfSource> open(const std::string& folder,
                                        const std::string& config_file = "config.json");
  // One line per group of tensors left out and why ("vision_tower: 42 tensors, kept for later").
  virtual const std::vector<std::string>& skipped() const = 0;
};

// Reads only the description: config text of any supported family. Throws kBadData.
ModelConfig model_config_from_hf(std::string_view config_json);

}  // namespace lapidary
