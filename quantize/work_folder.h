// What a calibration keeps beside its output, so that it can go on where it was interrupted: the
// tensors that are finished, and the hidden states behind the last finished layer.
//
//   OUT.partial/state.json      identity of the run, layers done, losses of finished tensors
//   OUT.partial/hidden-N.bin    hidden states and shared K and V after N layers, float32
//   OUT.partial/tensor-I.bin    stored bytes of tensor I
//
// state.json is replaced last and whole, so a run killed at any moment finds a layer's end. The
// folder is removed with this object unless keep() was called.
#pragma once

#include <map>
#include <span>
#include <string>

#include "formats/lap.h"
#include "quantize/hidden_states.h"
#include "quantize/ldlq.h"

namespace lapidary {

class WorkFolder {
 public:
  // `identity` says which run this is: source, text, options. With `resume`, an existing folder of
  // the same identity is taken over. Throws kUsage when a folder exists that may not be, kIo.
  WorkFolder(const std::string& output, const std::string& identity, bool resume);
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  ~WorkFolder();

  struct Piece {
    std::string path;
    FeedbackLoss loss;
  };
  void put(size_t tensor, std::span<const uint8_t> stored, const FeedbackLoss& loss);
  // REQUIRES: put() before, now or in the run that is resumed.
  std::vector<uint8_t> get(size_t tensor) const;
  void copy(size_t tensor, LapWriter& writer) const;
  using Pieces = std::map<size_t, Piece>;
  const Pieces& pieces() const { return pieces_; }

  int layers_done() const { return layers_done_; }
  void finish_layers(int n_layers, HiddenStates& states);
  void restore(HiddenStates& states) const;  // REQUIRES: layers_done() > 0

  void keep() { kept_ = true; }  // this run will be resumed
  const std::string& path() const { return path_; }

 private:
  std::string hidden_path(int n_layers) const;
  void read_state(const std::string& identity);

  std::string path_, identity_;
  int layers_done_ = 0;
  Pieces pieces_;
  bool kept_ = false;
};

// What makes two runs the same: the source's tensors and a sample of their rows, what becomes of
// them, the text, and how it is used. Reads two rows of every tensor.
std::string run_identity(const ModelSource& source, const std::vector<LapTensor>& entries,
                         const CalibrationOptions& options, const CalibrationWindows& text);

}  // namespace lapidary
