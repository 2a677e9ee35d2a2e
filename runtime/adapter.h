// A LoRA adapter beside a loaded model: y += scale * B (A x), with DoRA's row factors folded in.
#pragma once

#include <memory>
#include <string>
#include <string_view>
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
  // Null when the module is not adapted. `module` as in formats/peft.h.
  const AdapterMatrix* find(std::string_view module) const;
  int64_t max_rank() const;

 private:
  std::unordered_map<std::string, AdapterMatrix> matrices_;
};

}  // namespace lapidary
