// A model as a stream of tensors: what `convert` and `quantize` read, wherever it comes from.
//
// convert/ implements it over Hugging Face folders, LapReader over .lap files. Names are Hugging
// Face's canonical ones without wrapper prefixes ("model.layers.3.self_attn.q_proj.weight").
// Nothing is held in memory: rows are read on demand. A tensor is seen as [rows, k] with k its last
// dimension; 1-D tensors are one row.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/code.h"
#include "formats/model_config.h"

namespace lapidary {

// What surrounds the weights. JSON stays text here.
struct ModelMetadata {
  ModelConfig config;
  std::string chat_template;      // Jinja source; empty: none
  std::string generation_config;  // JSON object: temperature, top_k, top_p, ...; "{}" if none
  std::string recipe;             // JSON object: resolved options that made the file; "{}"
  std::string provenance;         // JSON object, see docs/format.md: source, tool, lossy_steps
  std::string kv;                 // JSON object: the KV cache chosen for this model; "{}" if none
};

struct SourceTensor {
  std::string name;
  std::vector<int64_t> shape;  // 1 to 3 dimensions
  Code code = Code::kBF16;     // how it is stored at the source
  int64_t k() const { return shape.back(); }
  int64_t rows() const {
    int64_t n = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
    return n;
  }
  int64_t elements() const { return rows() * k(); }
};

class ModelSource {
 public:
  virtual ~ModelSource() = default;
  virtual const ModelMetadata& metadata() const = 0;
  // tokenizer.json with tokenizer_config's bos/eos switches; may be empty. Tens of megabytes for
  // real models, so it is fetched anew by each call. Throws kBadData when it cannot be unpacked.
  virtual std::string tokenizer_json() const = 0;
  virtual const std::vector<SourceTensor>& tensors() const = 0;  // in file order
  // Rows [first, first + count) of tensor `index` as float32 [count, k], row-major. A packed tensor
  // is dequantized (and rotated back). Throws kBadData for NaN or infinity, naming the tensor.
  virtual void read_rows(size_t index, int64_t first, int64_t count,
                         std::span<float> out) const = 0;
  // The same rows as stored, and as surely finite. REQUIRES: the source code is a float.
  virtual void read_raw(size_t index, int64_t first, int64_t count,
                        std::span<uint8_t> out) const = 0;
  // Identity of the weights, see content_hash() in formats/hash.h; empty if not known yet without
  // reading everything.
  virtual std::string content_hash() const = 0;
  virtual std::string describe() const = 0;  // path, for messages
};

}  // namespace lapidary
