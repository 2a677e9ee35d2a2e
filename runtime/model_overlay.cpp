// Exchanging views; the files stay mapped as long as the overlay lives.
#include "runtime/model_overlay.h"

#include "formats/error.h"
#include "formats/lap_copy.h"

namespace lapidary {

ModelOverlay::ModelOverlay(const std::string& base, const std::string& other)
    : base_(Model::load(base)),
      other_(Model::load(other)),
      mixed_(std::const_pointer_cast<Model>(Model::load(base))) {
  const auto& left = base_->file().tensors();
  const auto& right = other_->file().tensors();
  bool same = left.size() == right.size();
  for (size_t i = 0; same && i < left.size(); ++i)
    same = left[i].name == right[i].name && left[i].shape == right[i].shape;
  if (!same)
    fail(ErrorCode::kBadData, "{} and {} hold different tensors: expected one model twice", base,
         other);
}

bool ModelOverlay::take(const std::string& tensor, const Model& from) {
  if (tensor == kPleTensor) {
    LAPIDARY_CHECK(from.ple_geometry.row_bytes <= base_->ple_geometry.row_bytes);
    mixed_->ple_table = from.ple_table;
    mixed_->ple_file = from.ple_file;
    mixed_->ple_geometry = from.ple_geometry;
    return true;
  }
  if (const auto stack = mixed_->stacks_.find(tensor); stack != mixed_->stacks_.end()) {
    *stack->second = *from.stacks_.at(tensor);
    return true;
  }
  constexpr std::string_view kSuffix = ".weight";
  if (!tensor.ends_with(kSuffix)) return false;
  const auto matrix = mixed_->matrices_.find(tensor.substr(0, tensor.size() - kSuffix.size()));
  if (matrix == mixed_->matrices_.end()) return false;
  *matrix->second = *from.matrices_.at(matrix->first);
  if (matrix->second == &mixed_->embedding && mixed_->config().tied_head)
    mixed_->head = mixed_->embedding;
  return true;
}

}  // namespace lapidary
