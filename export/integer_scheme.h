// Which integers a matrix gets in another runtime's folder: bits, and how many inputs share a
// scale.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "export/folder_writer.h"
#include "formats/lap.h"

namespace lapidary {

struct IntegerScheme {
  int bits = 0;       // 4 or 8; 0: stays a float
  int64_t group = 0;  // inputs under one scale; 0: the whole row
  bool operator==(const IntegerScheme&) const = default;
};

struct IntegerChoice {
  std::optional<int> bits;       // of every matrix; nothing: 4 for codes up to 4 bits, 8 above
  std::optional<int64_t> group;  // nothing: 32 where integers are taken over and at 4 bits, else 0
};

// The name of the module that a weight belongs to ("model.layers.3.mlp.up_proj"); empty when vLLM
// does not quantize it: embeddings, head, router, norms, per_layer_model_projection.
std::string quantizable_module(const std::string& tensor);

// One scheme per tensor of the model. vLLM fuses q, k, v and gate, up, and runs a layer's experts
// as one: partners get the widest scheme among them. Rows that are not whole groups take smaller
// groups, then 8 bits per row, then stay floats; each such tensor is named in `notes`.
std::vector<IntegerScheme> choose_schemes(const LapReader& model, const IntegerChoice& choice,
                                          std::vector<std::string>* notes);

// Do the tensor's own integers and scales go over as they are?
bool is_taken_over(const LapTensor& tensor, const IntegerScheme& scheme);

// Fills the parts of rows [first, first + count).
using WriteIntegers = void (*)(const LapReader& model, size_t source, const IntegerScheme& scheme,
                               int64_t first, int64_t count,
                               std::span<const std::span<uint8_t>> parts);
// `take_over` where is_taken_over(), else `round`.
EncodeRows integer_encoder(const LapReader& model, size_t source, const IntegerScheme& scheme,
                           WriteIntegers take_over, WriteIntegers round);
// The line in the report.
FolderReport::Tensor integer_report(const LapTensor& tensor, const IntegerScheme& scheme);

// Small linear layers that every token passes through: vLLM keeps them as floats, elsewhere they
// get 8 bits at least.
bool is_sensitive_linear(const std::string& tensor);

// Counts how much of a model has which scheme: configs name one, and what differs from it.
class SchemeCount {
 public:
  void add(const IntegerScheme& scheme, int64_t values) {
    values_[{scheme.bits, scheme.group}] += values;
  }
  bool empty() const { return values_.empty(); }
  IntegerScheme most() const;  // of the most weights. REQUIRES: !empty()

 private:
  std::map<std::pair<int, int64_t>, int64_t> values_;
};

std::string scheme_text(const IntegerScheme& scheme);  // "int4 per 32", "int8 per row"

}  // namespace lapidary
