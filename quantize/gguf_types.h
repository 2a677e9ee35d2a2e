// Which GGUF type every matrix of a model gets: one for all, or shared out under a budget of bits.
//
// The budget is allocation.h's, with the types that llama.cpp runs in place of our codes: what an
// error costs at the output is measured once per tensor (tensor_costs.h), and how large a type's
// error is, on a sample of the tensor's rows. Under a KLD limit the choice is measured, too.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/events.h"
#include "formats/ggml_type.h"
#include "formats/model_source.h"
#include "quantize/calibration.h"

namespace lapidary {

struct GgufTypeOptions {
  GgmlType weights = GgmlType::kQ4_K;                  // of every matrix that can have it
  std::vector<std::pair<std::string, GgmlType>> keep;  // glob pattern = type; the first wins
  // A budget over all tensors instead of `weights`, one of the three.
  std::optional<double> bits_per_weight;
  std::optional<uint64_t> tensor_bytes;
  std::optional<double> max_kld;  // nats per token
  bool has_budget() const { return bits_per_weight || tensor_bytes || max_kld; }
  // How the file will be rounded, for what is measured under max_kld; none: plainly.
  std::optional<CalibrationOptions> calibration;
  std::string text;         // to measure on; empty: the built-in text
  int64_t n_tokens = 2048;  // of it
  std::string fisher;       // file of gradient statistics instead of probes, or empty
  std::string scratch;      // scratch files are this with more appended
  int n_threads = 0;
};

struct GgufTypes {
  std::map<std::string, GgmlType> types;  // by our names: all tensors that GGUF stores as matrices
  std::optional<double> measured_kld;     // under max_kld, where a choice was measured within it
};

// Rows that are not whole blocks take the next fitting type; projections that every token passes
// through have 8 bits at least, unless a pattern or the budget says otherwise. `source_path` names
// what `source` reads. Throws kUsage for a budget below the smallest types, a limit that the
// largest exceed, for patterns that match nothing and for packed sources.
GgufTypes choose_gguf_types(const ModelSource& source, const std::string& source_path,
                            const GgufTypeOptions& options, const Events& events);

// 8 x bytes of all tensors / weights.
double gguf_bits_per_weight(const ModelSource& source,
                            const std::map<std::string, GgmlType>& types);

}  // namespace lapidary
