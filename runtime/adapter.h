// A LoRA adapter beside a loaded model: y += scale * B (A x), with DoRA's row factors folded in.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/peft.h"
#include "runtime/model.h"

namespace lapidary {

struct AdapterMatrix {
  int64_t rank = 0, in = 0, out = 0;
  std::vector<float> a;           // [rank, in]
  std::vector<float> b;           // [out, rank], scale folded in
  std::vector<float> row_factor;  // DoRA: y = row_factor * (W x + B A x); empty: 1
};

class Adapter {
 public:
  // Throws kBadData when the adapter was made for another base (its recorded hash is neither the
  // model's nor the model's recorded source's) or does not fit its shapes.
  static std::shared_ptr<const Adapter> load(const std::string& folder, const Model& model);
  // The same from an adapter in memory; `where` names it in errors.
  static std::shared_ptr<const Adapter> make(const PeftAdapter& peft, const Model& model,
                                             const std::string& where);
  // Null when the matrix is not adapted. `matrix` is one of the model's own views.
  const AdapterMatrix* find(const MatrixView& matrix) const {
    const auto found = matrices_.find(&matrix);
    return found == matrices_.end() ? nullptr : &found->second;
  }
  int64_t max_rank() const { return max_rank_; }
  bool belongs_to(const Model& model) const { return &model == model_; }

 private:
  std::unordered_map<const MatrixView*, AdapterMatrix> matrices_;
  int64_t max_rank_ = 0;
  const Model* model_ = nullptr;
};

// What tells one adapter folder from another: the hashes of its weights and its configuration.
std::string adapter_identity(const std::string& folder);

}  // namespace lapidary
