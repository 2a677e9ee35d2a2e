// A model as a GGUF file, for llama.cpp and what is built on it.
//
// Streams: a few megabytes of rows at a time are decoded, rounded and written; the file appears
// whole or not at all. Beside NAME.gguf stand NAME.Modelfile for Ollama and NAME.README.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "export/model_card.h"
#include "formats/events.h"
#include "formats/ggml_type.h"
#include "formats/lap.h"

namespace lapidary {

struct GgufExportOptions {
  // Type of every matrix. Nothing: each tensor gets the type nearest to its code (see
  // nearest_type).
  std::optional<GgmlType> type;
  // By our names: types of single tensors, and files that hold a tensor's blocks already, row after
  // row in our order (rounding with error feedback is not export's).
  std::map<std::string, GgmlType> types = {};
  std::map<std::string, std::string> rounded = {};
  int n_threads = 0;    // 0: all cores
  ModelCard card = {};  // what the caller knows; the rest is filled in
};

struct GgufExportReport {
  struct Tensor {
    std::string name;    // in the GGUF file
    std::string source;  // ours
    Code code;
    GgmlType type;
    bool exact;  // every weight has the value it had
  };
  std::vector<Tensor> tensors;
  uint64_t file_bytes = 0;
  double bits_per_weight = 0;  // of all tensors
  double seconds = 0;
};

// The GGUF type for a weight code: floats stay what they are; w8x, w8 -> Q8_0; w6 -> Q6_K; w5 ->
// Q5_K; w4x -> Q4_0; w4 -> Q4_K; w3 -> Q3_K.
GgmlType nearest_type(Code code);

// What the file of this model has beside the data of its matrices and norms at most: keys,
// tokenizer, padding, tables. The same for all types.
uint64_t gguf_overhead_bytes(const LapReader& model);

GgufExportReport export_gguf(const LapReader& model, const std::string& output,
                             const GgufExportOptions& options, const Events& events);

}  // namespace lapidary
