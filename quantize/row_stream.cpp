// The two ways of reading, behind one face.
#include "quantize/row_stream.h"

#include <algorithm>

#include "formats/error.h"
#include "formats/float_codes.h"

namespace lapidary {

RowStream::RowStream(const ModelSource& source, size_t index, bool hash)
    : source_(source), tensor_(source.tensors()[index]), index_(index) {
  if (hash && traits(tensor_.code).is_float) hash_.emplace();
}

void RowStream::read(int64_t count) {
  const size_t n_values = static_cast<size_t>(count * tensor_.k());
  if (traits(tensor_.code).is_float) {
    raw_.resize(n_values * traits(tensor_.code).bits / 8);
    source_.read_raw(index_, next_row_, count, raw_);
    // A converted file was checked when it was made, but may have been made by others.
    if (has_nonfinite(tensor_.code, raw_))
      fail(ErrorCode::kBadData, "{}: tensor {} holds NaN or infinity in rows {} to {}",
           source_.describe(), tensor_.name, next_row_, next_row_ + count - 1);
    if (hash_) hash_->update(raw_);
  } else {
    floats_.resize(n_values);
    source_.read_rows(index_, next_row_, count, floats_);
  }
  next_row_ += count;
}

void RowStream::row(int64_t row, std::span<float> out) const {
  const size_t k = static_cast<size_t>(tensor_.k());
  if (traits(tensor_.code).is_float) {
    const size_t row_bytes = k * traits(tensor_.code).bits / 8;
    decode_floats(tensor_.code, std::span(raw_).subspan(row * row_bytes, row_bytes), out);
  } else {
    std::copy_n(floats_.begin() + row * static_cast<int64_t>(k), k, out.begin());
  }
}

TensorIdentity RowStream::identity() const {
  LAPIDARY_CHECK(hash_.has_value());
  return {tensor_.name, tensor_.code, tensor_.shape, hash_->digest()};
}

}  // namespace lapidary
