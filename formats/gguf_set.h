// A GGUF model in one file, or in parts "NAME-00001-of-00003.gguf" as llama.cpp splits them: the
// first part holds every key, each its own tensors, and the keys split.no, split.count and
// split.tensors.count tell what belongs together.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/gguf.h"

namespace lapidary {

class GgufSet {
 public:
  // Any part's path will do. Throws kNotFound for a missing part, kBadData for parts that do not
  // belong together, and what GgufReader throws.
  explicit GgufSet(const std::string& path);

  const GgufValue* find(std::string_view key) const { return parts_.front()->find(key); }
  const std::vector<GgufPair>& pairs() const { return parts_.front()->pairs(); }
  size_t size() const { return places_.size(); }  // tensors of all parts
  const GgufTensor& tensor(size_t index) const;
  // Rows [first, first + count) of a tensor, mapped.
  std::span<const uint8_t> rows(size_t index, int64_t first, int64_t count) const;
  // Lets the system forget those rows; they can be read again.
  void release(size_t index, int64_t first, int64_t count) const;

 private:
  struct Place {
    size_t part, tensor;
  };
  std::vector<std::unique_ptr<GgufReader>> parts_;
  std::vector<Place> places_;
};

}  // namespace lapidary
