// A float model with an adapter added, seen as one more model source.
//
// Rows come as W + s B A (LoRA, rsLoRA) or m (W + s B A) / ||W + s B A|| per output (DoRA),
// computed in float64 and rounded to float32. Raw rows are that, rounded once to the stored code.
#pragma once

#include <vector>

#include "formats/model_source.h"
#include "formats/peft.h"

namespace lapidary {

// The tensor that a module adapts. A stack of experts is a parameter, without ".weight".
std::string tensor_of(const LoraModule& module);

// Rows [first_row, ...) of a module's matrix, [n, k] float32, become the merged ones; in a stack
// they count on from expert to expert.
void add_adapter(const LoraModule& module, int64_t first_row, int64_t k, std::span<float> rows);

class MergedSource : public ModelSource {
 public:
  // `base` and `adapter` must outlive this. With `exact`, merged matrices say they are float32, so
  // that a quantizer sees them unrounded. Throws kBadData when a module has no tensor in `base`.
  MergedSource(const ModelSource& base, const PeftAdapter& adapter, ModelMetadata metadata,
               bool exact);

  const ModelMetadata& metadata() const override { return metadata_; }
  std::string tokenizer_json() const override { return base_.tokenizer_json(); }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read_rows(size_t index, int64_t first, int64_t count, std::span<float> out) const override;
  void read_raw(size_t index, int64_t first, int64_t count, std::span<uint8_t> out) const override;
  std::string content_hash() const override { return {}; }  // weights that exist nowhere yet
  std::string describe() const override { return base_.describe(); }

 private:
  const ModelSource& base_;
  ModelMetadata metadata_;
  std::vector<SourceTensor> tensors_;
  std::vector<const LoraModule*> modules_;  // per tensor; null: not adapted
};

}  // namespace lapidary
