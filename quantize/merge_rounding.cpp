// Master rows, plus the adapter, into one panel.
#include "quantize/merge_rounding.h"

#include <algorithm>
#include <vector>

#include "formats/error.h"
#include "quantize/merged_source.h"
#include "quantize/pack_rows.h"

namespace lapidary {

MergeRounding::MergeRounding(std::unique_ptr<LapReader> master) : master_(std::move(master)) {
  for (size_t i = 0; i < master_->tensors().size(); ++i) tensors_[master_->tensors()[i].name] = i;
}

void MergeRounding::round_panel(const LoraModule& module, int64_t expert, const PackedGeometry& g,
                                bool rotated, int64_t first_row, std::span<uint8_t> codes,
                                std::span<uint8_t> meta) const {
  const auto found = tensors_.find(tensor_of(module));
  if (found == tensors_.end())
    fail(ErrorCode::kBadData, "{}: the adapter's module {} has no tensor here", master_->describe(),
         module.module);
  const int64_t count = std::min<int64_t>(kPanelRows, g.rows - first_row);
  std::vector<float> rows(static_cast<size_t>(count * g.k));
  const int64_t first = expert * g.rows + first_row;
  master_->read_rows(found->second, first, count, rows);
  add_adapter(module, first, g.k, rows);
  const FloatRows view{Code::kF32, reinterpret_cast<const uint8_t*>(rows.data()), g.k};
  const RoundingLoss loss =
      pack_panel_rows(g, rotated, view, 0, static_cast<int>(count), codes, meta);
  if (!loss.fits)
    fail(ErrorCode::kBadData, "{}: with its adapter, {} has weights too large for {}",
         master_->describe(), module.module, code_name(g.code));
}

}  // namespace lapidary
