// Which example goes into which step: order, mixture, rows. Pure numbers, fixed by the seed before
// the first step, so that a resumed run continues with the very same batches.
//
// Domain examples are shuffled anew for each pass and fill their part of a step's tokens, every
// step one at least. General examples follow until general tokens / all tokens is the wanted share,
// exact to one token after every step: whole examples that fit are preferred, and only the last one
// of a step is cut. Among several general sources the next is always the one furthest behind its
// weight's part, so that after every step each is within one example of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lapidary {

struct PlanOptions {
  double general_share = 0;  // of all tokens, in [0, 1)
  int64_t batch_tokens = 2048;
  int64_t context = 1024;  // tokens of a row; a longer example has a row of its own
  double epochs = 1;       // passes over the domain examples
  int64_t steps = 0;       // > 0 wins over epochs
  uint64_t seed = 0;
};

struct PlannedExample {
  int source = 0;        // 0: domain; i: general source i - 1
  int64_t index = 0;     // of the example in its source
  int64_t n_tokens = 0;  // taken from its beginning; less than its length only when cut
};
using PlannedRow = std::vector<PlannedExample>;  // together at most `context` tokens
struct PlannedStep {
  std::vector<PlannedRow> rows;
  int64_t tokens = 0, general_tokens = 0;  // of this step
};

struct GeneralLengths {
  std::span<const int64_t> lengths;
  double weight = 1;  // its part of the general tokens, relative to the other sources'; above 0
};

// Lengths: tokens of each example, all positive and at most `context`; no source is empty. Without
// general sources the share is zero. At least one step.
std::vector<PlannedStep> plan_training(std::span<const int64_t> domain,
                                       std::span<const GeneralLengths> general,
                                       const PlanOptions& options);

}  // namespace lapidary
