// What all calibration windows carry from layer to layer: the residual stream, and for E models the
// embeddings, their rows of the per-layer table, and K and V that later layers share.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/model_source.h"
#include "quantize/calibration_windows.h"
#include "quantize/float_matrix.h"
#include "runtime/layer_walk.h"

namespace lapidary {

class HiddenStates {
 public:
  // Embeds all windows. Throws what the source throws.
  HiddenStates(const ModelSource& source, const CalibrationWindows& text);

  int64_t n_windows() const { return static_cast<int64_t>(text_.windows.size()); }
  int64_t n_tokens(int64_t window) const {
    return static_cast<int64_t>(text_.windows[static_cast<size_t>(window)].size());
  }
  // [n_tokens, d_model]
  const float* hidden(int64_t window) const { return hidden_.row(first(window)); }
  const float* embedded(int64_t window) const { return embedded_.row(first(window)); }
  FloatMatrix& all_hidden() { return hidden_; }

  // Runs every window through a layer. With `keep`, outputs replace the hidden states and K and V
  // are kept for layers that share them. Throws kBadData naming the layer when its outputs are not
  // finite; calls `after_window` after each.
  void run_layer(LayerWalk& walk, int layer, bool keep,
                 const std::function<void(int64_t window)>& after_window);

  // K and V at hand, by the layer that owns them.
  std::map<int, FloatMatrix>& shared_kv() { return shared_kv_; }

 private:
  int64_t first(int64_t window) const { return first_[static_cast<size_t>(window)]; }
  void read_ple(const ModelSource& source);
  const float* ple_rows(int64_t window, int layer);

  const CalibrationWindows& text_;
  ModelConfig config_;
  std::string name_;
  std::vector<int64_t> first_;  // first token of each window
  FloatMatrix hidden_, embedded_;
  std::map<int, FloatMatrix> shared_kv_;
  // Rows of the per-layer table, of each token that occurs; as float32.
  std::unordered_map<int32_t, int64_t> ple_row_;
  FloatMatrix ple_table_;
  std::vector<float> ple_, work_;
};

}  // namespace lapidary
