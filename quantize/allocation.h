// Sharing out bits: one code for each tensor, so that the sum of their costs at the output is least
// within a budget of bytes, or the bytes are fewest within a limit of cost.
//
// A multiple-choice knapsack. Of each tensor only the lower convex hull of (bytes, cost) matters to
// a Lagrange multiplier: from the smallest codes on, the step that saves the most cost per byte is
// taken next. What the last step leaves of the budget is then filled by single steps that still
// fit, hull or not. Ties go to the earlier tensor; the result depends on nothing else.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "formats/code.h"

namespace lapidary {

struct CodeChoice {
  Code code;
  uint64_t bytes = 0;
  double kld = 0;  // predicted cost at the output, nats per token
};

// Choices per tensor, in any order; at least one each.
using Menu = std::vector<std::vector<CodeChoice>>;
// Per tensor the index of its choice.
using Selection = std::vector<size_t>;

uint64_t bytes_of(const Menu& menu, const Selection& selection);
double kld_of(const Menu& menu, const Selection& selection);

// The least cost within `bytes`; nothing when even the smallest choices are larger.
std::optional<Selection> cheapest_within(const Menu& menu, uint64_t bytes);
// The fewest bytes whose cost is at most `kld`; nothing when the best choices cost more.
std::optional<Selection> smallest_within(const Menu& menu, double kld);
// Every point of the walk along the hull: sizes rising, costs falling.
std::vector<Selection> frontier(const Menu& menu);

}  // namespace lapidary
