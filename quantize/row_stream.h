// Rows of a source tensor in order, chunk by chunk, with the identity of what went by.
//
// Float sources are read raw, so that the hash is that of the file `convert` would write; decoding
// is left to the threads that use the rows. Packed sources come as floats and are not hashed.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "formats/hash.h"
#include "formats/model_source.h"

namespace lapidary {

class RowStream {
 public:
  RowStream(const ModelSource& source, size_t index, bool hash);

  // The next `count` rows become the chunk. Throws what the source throws.
  void read(int64_t count);
  // Row `row` of the chunk as floats [k]. Thread-safe.
  void row(int64_t row, std::span<float> out) const;
  // The chunk as stored. REQUIRES: a float source.
  std::span<const uint8_t> raw() const { return raw_; }

  // Of all rows read so far. REQUIRES: `hash`.
  TensorIdentity identity() const;

 private:
  const ModelSource& source_;
  const SourceTensor& tensor_;
  size_t index_;
  int64_t next_row_ = 0;
  std::vector<uint8_t> raw_;
  std::vector<float> floats_;
  std::optional<StreamingHash> hash_;
};

}  // namespace lapidary
