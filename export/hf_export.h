// A model as a Hugging Face folder: config.json, sharded safetensors, tokenizer, chat template,
// generation settings, and a README that says what was done.
//
// Float tensors keep their bits. Quantized ones are written as bf16 of their dequantized values;
// the report and the README say so. Streams; the folder appears whole or not at all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "export/hf_config.h"
#include "formats/events.h"
#include "formats/lap.h"

namespace lapidary {

struct HfExportOptions {
  HfDialect dialect = HfDialect::kTransformers5;
  uint64_t shard_bytes = 5'000'000'000;  // a shard ends before the tensor that would pass this
  bool overwrite = false;                // replace an existing folder
  int n_threads = 0;                     // 0: all cores
};

struct HfExportReport {
  struct Tensor {
    std::string name;
    Code code;   // in the .lap
    bool exact;  // written with the bits it had
  };
  std::vector<Tensor> tensors;
  int n_shards = 0;
  uint64_t bytes = 0;  // of all tensors
  double seconds = 0;
};

// Throws kUsage when `folder` exists and not `overwrite`; kBadData when the family's config cannot
// describe the model; kIo.
HfExportReport export_hf(const LapReader& model, const std::string& folder,
                         const HfExportOptions& options, const Events& events);

}  // namespace lapidary
