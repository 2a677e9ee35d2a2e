// Rows of a source's tensors in order, chunk by chunk, with the identity of what went by.
//
// Float sources are read raw, so that the hash is that of the file `convert` would write; decoding
// is left to the threads that use the rows. Packed sources come as floats and are not hashed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/hash.h"
#include "formats/model_source.h"
#include "formats/row_chunk.h"
#include "quantize/pack_rows.h"

namespace lapidary {

// A model's rows, at most `most_weights` weights at once, cut at multiples of `multiple` rows of a
// matrix (one row at least). Chunks never cross the matrices of a stack.
std::vector<RowChunk> chunks_of(const ModelSource& source, int64_t most_weights, int64_t multiple);

// The rows of one chunk in memory.
class ChunkRows {
 public:
  FloatRows view() const { return {code_, bytes(), k_}; }
  // The same values as rows of another width.
  FloatRows view(int64_t k) const { return {code_, bytes(), k}; }
  // As stored. REQUIRES: a float source.
  const std::vector<uint8_t>& raw() const { return raw_; }

 private:
  friend class RowStream;
  const uint8_t* bytes() const {
    return raw_.empty() ? reinterpret_cast<const uint8_t*>(floats_.data()) : raw_.data();
  }
  Code code_ = Code::kF32;
  int64_t k_ = 0;
  std::vector<uint8_t> raw_;
  std::vector<float> floats_;
};

// Not thread-safe: one reader, which sees all chunks of all tensors in their order.
class RowStream {
 public:
  RowStream(const ModelSource& source, bool hash) : source_(source), hashes_(hash) {}

  // Throws what the source throws, and kBadData for NaN and infinity.
  void read(const RowChunk& chunk, ChunkRows* out);

  // content_hash() of all tensors. REQUIRES: `hash`, a float source, all chunks read.
  std::string content_hash() const { return lapidary::content_hash(identities_); }

 private:
  const ModelSource& source_;
  bool hashes_;
  std::optional<StreamingHash> hash_;  // of the present tensor
  std::vector<TensorIdentity> identities_;
};

}  // namespace lapidary
