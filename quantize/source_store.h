// A model source as the store behind a LayerWalk: a few tensors in memory at a time, as they came
// or as they have become.
//
// Shapes of all tensors are known from the start; matrices that were not loaded have null pointers,
// and vectors are read when they are asked for.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/model_source.h"
#include "quantize/pack_rows.h"
#include "runtime/model_loader.h"
#include "runtime/workspace.h"

namespace lapidary {

class SourceStore : public TensorStore {
 public:
  // `source` must outlive this.
  explicit SourceStore(const ModelSource& source);

  // Reads tensor `index` of the source: floats as they are stored, packed ones as float32. Throws
  // what the source throws, and kBadData for NaN and infinity.
  void load(size_t index);
  // From now on the tensor is `entry`, these stored bytes; what was loaded of it is dropped.
  void replace(size_t index, const LapTensor& entry, std::span<const uint8_t> stored);
  void drop(size_t index) { resident_.erase(index); }
  // REQUIRES: loaded and not replaced.
  FloatRows rows(size_t index) const;

  const LapTensor* find(const std::string& name) const override;
  MatrixView matrix(const LapTensor& tensor, int64_t expert) const override;
  std::vector<float> floats(const LapTensor& tensor) const override;
  std::string describe() const override { return source_.describe(); }

 private:
  struct Resident {
    LapTensor entry;
    AlignedBuffer<uint8_t> bytes;
  };
  const ModelSource& source_;
  std::vector<LapTensor> shapes_;  // as floats, in the source's order
  std::unordered_map<std::string, size_t> index_;
  std::map<size_t, Resident> resident_;
};

}  // namespace lapidary
