// A model source made of tensors in memory, for shapes and values that no checkpoint has.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "formats/float_codes.h"
#include "formats/model_source.h"

namespace lapidary {

class MemorySource : public ModelSource {
 public:
  MemorySource() {
    // The smallest description that passes validation; no test looks at it.
    ModelConfig& c = metadata_.config;
    c.family = "test";
    c.d_model = 64;
    c.vocab_size = 8;
    c.max_context = 64;
    LayerConfig layer;
    layer.head_dim = 64;
    layer.n_heads = layer.n_kv_heads = 1;
    layer.d_ff = 64;
    c.layers = {layer};
    metadata_.generation_config = metadata_.recipe = metadata_.provenance = "{}";
  }

  // REQUIRES: `code` holds the values exactly.
  void add(const std::string& name, std::vector<int64_t> shape, std::vector<float> values,
           Code code = Code::kF32) {
    tensors_.push_back({name, std::move(shape), code});
    values_.push_back(std::move(values));
  }
  void add_random(const std::string& name, std::vector<int64_t> shape) {
    SourceTensor tensor{name, shape, Code::kF32};
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    std::mt19937 random(static_cast<unsigned>(values.size()));
    // A sum of four uniforms: near enough to a bell.
    for (float& value : values) {
      value = 0;
      for (int i = 0; i < 4; ++i) value += static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
    }
    add(name, std::move(shape), std::move(values));
  }

  ModelConfig& config() { return metadata_.config; }
  const ModelMetadata& metadata() const override { return metadata_; }
  std::string tokenizer_json() const override { return {}; }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read_rows(size_t index, int64_t first, int64_t, std::span<float> out) const override {
    std::copy_n(values_[index].begin() + first * tensors_[index].k(), out.size(), out.begin());
  }
  void read_raw(size_t index, int64_t first, int64_t count, std::span<uint8_t> out) const override {
    const int64_t k = tensors_[index].k();
    encode_floats(tensors_[index].code,
                  std::span(values_[index])
                      .subspan(static_cast<size_t>(first * k), static_cast<size_t>(count * k)),
                  out);
  }
  std::string content_hash() const override { return {}; }
  std::string describe() const override { return "memory"; }

 private:
  ModelMetadata metadata_;
  std::vector<SourceTensor> tensors_;
  std::vector<std::vector<float>> values_;
};

}  // namespace lapidary
