// Costs at the output from gradient statistics instead of probes.
//
// The divergence that an error D of one tensor costs is sum_ij F_ij D_ij^2 / 2 (formats/fisher.h).
// Of F the file has sums by row and by column, so F_ij is taken as rows[i] columns[j] / total. A
// code's error is spread as the weights are: a code that loses the share e of a tensor's energy
// loses about e of every run of 64 inputs of a row, and within a run rotation spreads it evenly.
// Then the cost is linear in e, with one constant per tensor, which one pass over the weights
// gives.
#pragma once

#include "formats/fisher.h"
#include "formats/model_source.h"

namespace lapidary {

// Throws kBadData unless the statistics are of the weights with this content hash, or of a model
// made from them.
void check_fisher(const FisherStatistics& statistics, const std::string& path,
                  const std::string& content_hash);

// Nats per token and relative squared error of source tensor `index`. Throws kBadData when the
// statistics have no such tensor, or one of another shape.
double fisher_cost(const ModelSource& source, size_t index, const FisherStatistics& statistics);

}  // namespace lapidary
