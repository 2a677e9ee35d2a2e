// The streaming pass of calibration: layer by layer, what its matrices read is measured, they are
// rounded with error feedback, and the next layer's inputs come through what they have become.
//
// Per layer: its float tensors are loaded; all windows run through it once while taps sum up the
// Hessians; then each Hessian is factorised and its matrices are rounded; then the windows run
// through the layer again, packed (with --no-sequential only once, exact). One layer's weights and
// Hessians are in memory at a time. Every finished tensor goes to the work folder.
//
// Experts: gate and up of a layer's experts share one Hessian, in which a token counts by the sum
// of its experts' squared weights. Down has one per expert, its tokens weighted by the router,
// drawn towards the layer's mean as if 2n tokens (n: inputs) of that had been seen; an expert that
// no token reached has the mean alone.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "formats/events.h"
#include "quantize/hidden_states.h"
#include "quantize/round_tensor.h"
#include "quantize/source_store.h"
#include "quantize/work_folder.h"

namespace lapidary {

class Calibrator {
 public:
  // `entries`: the plan of the file, one per tensor of `source`. All must outlive this.
  Calibrator(const ModelSource& source, const std::vector<LapTensor>& entries,
             const CalibrationWindows& text, const CalibrationOptions& options, int n_threads,
             WorkFolder& folder, const Events& events);

  // Rounds every matrix that has inputs to measure and a code that takes feedback; the others are
  // left to plain rounding. Goes on after folder.layers_done().
  void run();

 private:
  // Matrices that read the same input in the same basis.
  struct Group {
    Hessian hessian;
    int64_t n_rows = 0;  // tokens seen
    std::vector<const MatrixView*> matrices;
  };
  // Where a view of the walk lies in the file.
  struct Place {
    size_t tensor;
    int64_t matrix;  // of a stack
    bool is_expert_down;
  };

  void before_layers();
  void layer(int index);
  void head();
  void name_views(int layer);
  void add_place(const MatrixView& view, const std::string& tensor, int64_t matrix = 0,
                 bool is_expert_down = false);
  bool is_wanted(size_t tensor) const;
  std::vector<size_t> tensors_of(int layer) const;
  void measure(const MatrixInput& input);
  void round_groups();
  void round_group(Group& group, double damping);
  void finish(size_t tensor);
  void put_back(size_t tensor);
  std::optional<GgmlType> ggml_type(size_t tensor) const;
  void progress(int64_t window, int pass, int layer);

  const ModelSource& source_;
  const std::vector<LapTensor>& entries_;
  const CalibrationWindows& text_;
  const CalibrationOptions& options_;
  WorkFolder& folder_;
  const Events& events_;
  SourceStore store_;
  LayerWalk walk_;
  HiddenStates states_;
  Progress progress_;
  FloatMatrix scratch_;
  std::map<std::string, size_t> index_;
  std::vector<bool> is_wanted_;  // by tensor
  std::map<const MatrixView*, Place> places_;
  std::map<const MatrixView*, Group> groups_;   // by their first matrix that is wanted
  std::map<size_t, TensorRounding> roundings_;  // under way
};

// Rounds what calibration can round, into a folder beside the output, then writes the file. Layers
// that are finished outlive an interruption and a full disk: hours of work are not lost with them.
void calibrate_and_write(const ModelSource& source, const std::string& output,
                         const std::vector<LapTensor>& entries, const CalibrationWindows& text,
                         const CalibrationOptions& options, int n_threads, const Events& events,
                         const std::function<void(const WorkFolder&)>& write);

// For provenance: "rounding with error feedback, calibrated on ...".
std::string describe_calibration(const CalibrationOptions& options, const CalibrationWindows& text);

}  // namespace lapidary
