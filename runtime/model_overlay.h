// A model in which single tensors are exchanged for those of another file of the same model: what
// it takes to ask what one tensor's rounding costs.
//
// An engine made on model() computes with whatever lies in it at the step; nothing is loaded or
// allocated by an exchange. Not for use while a step runs.
#pragma once

#include <memory>
#include <string>

#include "runtime/model.h"

namespace lapidary {

class ModelOverlay {
 public:
  // Both are .lap files; `other` has the same description. Throws as Model::load(), and kBadData
  // when the two do not describe one model.
  ModelOverlay(const std::string& base, const std::string& other);

  std::shared_ptr<const Model> model() const { return mixed_; }

  // From now on this matrix, stack or table of per-layer embeddings is the other file's; a tied
  // head goes with its embedding. False: not a matrix of the model. REQUIRES: a table's rows are
  // not longer than the base's.
  bool replace(const std::string& tensor) { return take(tensor, *other_); }
  // And the base's again.
  void restore(const std::string& tensor) { take(tensor, *base_); }

 private:
  bool take(const std::string& tensor, const Model& from);

  std::shared_ptr<const Model> base_, other_;
  std::shared_ptr<Model> mixed_;  // loaded from the base's file: same pages, own views
};

}  // namespace lapidary
