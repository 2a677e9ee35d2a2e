// Cutting a model into chunks, and the two ways of reading them behind one face.
#include "quantize/row_stream.h"

#include <algorithm>

#include "formats/error.h"
#include "formats/float_codes.h"

namespace lapidary {

std::vector<RowChunk> chunks_of(const ModelSource& source, int64_t most_weights, int64_t multiple) {
  std::vector<RowChunk> chunks;
  for (size_t index = 0; index < source.tensors().size(); ++index) {
    const SourceTensor& t = source.tensors()[index];
    const bool is_stack = t.shape.size() == 3;
    const int64_t matrix_rows = is_stack ? t.shape[1] : t.rows();
    const int64_t at_once = std::max(most_weights / t.k() / multiple, int64_t{1}) * multiple;
    for (int64_t start = 0; start < t.rows(); start += matrix_rows)
      append_chunks(index, start, start + matrix_rows, at_once, &chunks);
  }
  return chunks;
}

void RowStream::read(const RowChunk& chunk, ChunkRows* out) {
  const SourceTensor& t = source_.tensors()[chunk.tensor];
  const size_t n_values = static_cast<size_t>(chunk.count * t.k());
  out->k_ = t.k();
  if (!traits(t.code).is_float) {
    out->code_ = Code::kF32;
    out->raw_.clear();
    out->floats_.resize(n_values);
    source_.read_rows(chunk.tensor, chunk.first, chunk.count, out->floats_);
    return;
  }
  out->code_ = t.code;
  out->raw_.resize(n_values * traits(t.code).bits / 8);
  source_.read_raw(chunk.tensor, chunk.first, chunk.count, out->raw_);
  // A converted file was checked when it was made, but may have been made by others.
  if (has_nonfinite(t.code, out->raw_))
    fail(ErrorCode::kBadData, "{}: tensor {} holds NaN or infinity in rows {} to {}",
         source_.describe(), t.name, chunk.first, chunk.first + chunk.count - 1);
  if (!hashes_) return;
  if (!hash_) hash_.emplace();
  hash_->update(out->raw_);
  if (chunk.end() < t.rows()) return;
  identities_.push_back({t.name, t.code, t.shape, hash_->digest()});
  hash_.reset();
}

}  // namespace lapidary
