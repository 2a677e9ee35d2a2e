// One tensor rounded with error feedback: rows of floats in, the bytes of a .lap tensor out.
//
// Rows are taken some hundred megabytes at a time. A stack of experts is rounded matrix by matrix,
// each with the factor of its own inputs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "formats/ggml_type.h"
#include "formats/lap.h"
#include "quantize/factor.h"
#include "quantize/ldlq.h"
#include "quantize/pack_rows.h"

namespace lapidary {

// Floats of the strips rounded together: 256 MiB. L is read once for all of them.
inline constexpr int64_t kStripFloats = int64_t{64} << 20;

// Whether a code has a block rounder, so that error feedback can round it.
bool takes_feedback(Code code);

class TensorRounding {
 public:
  // REQUIRES: panels of a code that takes feedback. With `ggml` rows of such blocks are stored
  // instead, one row after another.
  explicit TensorRounding(const LapTensor& entry, std::optional<GgmlType> ggml = {});

  // Matrix `index` of the stack (0 of a plain matrix) from its rows in `rows`, which start at its
  // row 0.
  void round(int64_t index, const FloatRows& rows, const Factor& factor, FloatMatrix& scratch,
             ThreadPool& pool);

  // Codes of all, then meta of all; or all rows of blocks.
  const std::vector<uint8_t>& stored() const { return stored_; }
  const FeedbackLoss& loss() const { return loss_; }
  bool fits() const { return fits_; }  // false: a weight was too large for the 16-bit scales

 private:
  std::unique_ptr<BlockRounder> rounder(int64_t index, int64_t first, int64_t n_rows);
  void fill_strip(const FloatRows& rows, int64_t first_row, float* strip, bool* fits) const;

  const LapTensor& entry_;
  PackedGeometry g_;
  std::optional<GgmlType> ggml_;
  int64_t n_matrices_;
  std::vector<uint8_t> stored_;
  FloatMatrix strips_;
  FeedbackLoss loss_;
  bool fits_ = true;
};

}  // namespace lapidary
