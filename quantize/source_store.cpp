// Views of what is in memory.
#include "quantize/source_store.h"

#include <algorithm>

#include "formats/error.h"
#include "formats/float_codes.h"
#include "formats/lap_copy.h"

namespace lapidary {

SourceStore::SourceStore(const ModelSource& source) : source_(source) {
  for (const SourceTensor& tensor : source.tensors()) {
    SourceTensor as_floats = tensor;
    if (!traits(tensor.code).is_float) as_floats.code = Code::kF32;
    index_.emplace(tensor.name, shapes_.size());
    shapes_.push_back(plain_lap_tensor(as_floats, source.metadata().config));
  }
}

void SourceStore::load(size_t index) {
  const SourceTensor& tensor = source_.tensors()[index];
  const LapTensor& entry = shapes_[index];
  const int64_t bytes = tensor.elements() * traits(entry.code).bits / 8;
  Resident& resident = resident_[index];
  resident = {entry, AlignedBuffer<uint8_t>(bytes)};
  const std::span<uint8_t> all(resident.bytes.data(), static_cast<size_t>(bytes));
  if (!traits(tensor.code).is_float) {
    source_.read_rows(index, 0, tensor.rows(),
                      {reinterpret_cast<float*>(all.data()), static_cast<size_t>(bytes) / 4});
    return;
  }
  source_.read_raw(index, 0, tensor.rows(), all);
  if (has_nonfinite(entry.code, all))
    fail(ErrorCode::kBadData, "{}: tensor {} holds NaN or infinity", source_.describe(),
         tensor.name);
}

void SourceStore::replace(size_t index, const LapTensor& entry, std::span<const uint8_t> stored) {
  Resident& resident = resident_[index];
  resident = {entry, AlignedBuffer<uint8_t>(static_cast<int64_t>(stored.size()))};
  std::copy(stored.begin(), stored.end(), resident.bytes.data());
}

FloatRows SourceStore::rows(size_t index) const {
  const Resident& resident = resident_.at(index);
  LAPIDARY_CHECK(traits(resident.entry.code).is_float);
  return {resident.entry.code, resident.bytes.data(), resident.entry.shape.back()};
}

const LapTensor* SourceStore::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &shapes_[found->second];
}

MatrixView SourceStore::matrix(const LapTensor& tensor, int64_t expert) const {
  MatrixView view;
  view.code = tensor.code;
  view.rows = tensor.shape[tensor.shape.size() - 2];
  view.k = tensor.shape.back();
  const auto found = resident_.find(index_.at(tensor.name));
  if (found == resident_.end()) return view;
  const LapTensor& entry = found->second.entry;
  const uint8_t* bytes = found->second.bytes.data();
  view.code = entry.code;
  if (traits(entry.code).is_float) {
    view.codes = bytes + expert * view.rows * view.k * traits(entry.code).bits / 8;
    return view;
  }
  const PackedGeometry g = packed_geometry(entry.code, view.rows, view.k);
  const int64_t n_matrices = entry.shape.size() == 3 ? entry.shape[0] : 1;
  view.rotated = entry.rotated;
  view.scale_type = entry.scale_type;
  view.codes = bytes + expert * g.code_bytes;
  view.meta = bytes + n_matrices * g.code_bytes + expert * g.meta_bytes;
  return view;
}

std::vector<float> SourceStore::floats(const LapTensor& tensor) const {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  const size_t index = index_.at(tensor.name);
  source_.read_rows(index, 0, source_.tensors()[index].rows(), values);
  return values;
}

}  // namespace lapidary
