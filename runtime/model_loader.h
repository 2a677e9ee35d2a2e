// Fills a model's views from wherever its tensors lie: a mapped file, or memory that holds one
// layer at a time.
//
// The one place that knows which tensors an architecture has, what they are called and which shapes
// they have.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "formats/error.h"
#include "runtime/model.h"

namespace lapidary {

// Tensors by canonical name.
class TensorStore {
 public:
  virtual ~TensorStore() = default;
  virtual const LapTensor* find(const std::string& name) const = 0;  // null: not there
  // `expert` picks one of a 3-D stack. Views of tensors that are not in memory have their shape and
  // null pointers.
  virtual MatrixView matrix(const LapTensor& tensor, int64_t expert) const = 0;
  virtual std::vector<float> floats(const LapTensor& tensor) const = 0;
  virtual const ReadFile* file() const { return nullptr; }  // where row tables are read from
  virtual std::string describe() const = 0;                 // path, for messages
};

class ModelLoader {
 public:
  ModelLoader(Model& model, const TensorStore& store) : model_(model), store_(store) {}

  // Everything. Throws kBadData naming the tensor that is missing or misshapen.
  void load();
  // One layer again: its views, norms and scalars. REQUIRES: load() came before.
  void load_layer(int index);
  const std::unordered_set<std::string>& taken() const { return taken_; }  // names used so far

 private:
  void load_ple();
  void load_assistant();
  const LapTensor& take(const std::string& name, const std::vector<int64_t>& shape);
  std::vector<float> floats(const std::string& name, int64_t size);
  void matrix(const std::string& module, int64_t rows, int64_t k, MatrixView& out);
  void stack(const std::string& name, int64_t n_experts, int64_t rows, int64_t k,
             std::vector<MatrixView>& out);
  void check_matrix(const LapTensor& tensor) const;

  template <class... Args>
  [[noreturn]] void bad(const std::string& name, fmt::format_string<Args...> format,
                        Args&&... args) const {
    fail(ErrorCode::kBadData, "{}: tensor {} {}", store_.describe(), name,
         fmt::format(format, std::forward<Args>(args)...));
  }

  Model& model_;
  const TensorStore& store_;
  std::unordered_set<std::string> taken_;
};

}  // namespace lapidary
