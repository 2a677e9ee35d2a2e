// Gradient statistics of a model: what `finetune --fisher` writes and `quantize --fisher` reads.
//
// For every matrix the diagonal of the Fisher information, per token, summed over each row and over
// each column: rows[i] = sum_j F_ij, columns[j] = sum_i F_ij, where F_ij is the mean over tokens of
// the squared derivative of log p(label) with respect to weight ij, labels drawn from the model.
// A change D of the weights then costs about sum_ij F_ij D_ij^2 / 2 nats of KL divergence per
// token.
//
// The file is safetensors: for each tensor NAME the float32 vectors NAME.rows [rows] and
// NAME.columns [k]; a stack of experts [E, rows, k] counts as E * rows rows. File metadata:
// "format" = "lapidary-fisher-1", "model" the content hash of the .lap it was measured on, "source"
// that of the float weights this was made from (or empty), "tokens" their number in decimal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

struct FisherTensor {
  std::string name;                  // as the model's files have it
  std::vector<float> rows, columns;  // finite, not negative
};

struct FisherStatistics {
  std::string model_hash, source_hash;  // 32 hex digits; the second may be empty
  int64_t tokens = 0;
  std::vector<FisherTensor> tensors;

  const FisherTensor* find(std::string_view name) const;  // null: not there
};

void write_fisher(const std::string& path, const FisherStatistics& statistics);
// Throws kBadData for anything that write_fisher() does not write, and what opening throws.
FisherStatistics read_fisher(const std::string& path);

}  // namespace lapidary
