// Sharing out bits: one code for each tensor, so that the sum of their costs at the output is least
// within a budget of bytes, or the bytes are fewest within a limit of cost.
//
// A multiple-choice knapsack, solved by a table over bytes (Kellerer, Pferschy, Pisinger, "Knapsack
// Problems", 2004, chapter 11): exact where bytes are counted one by one, in cells of 1/16384 of
// what is to be shared out where there are more, and what the cells were rounded up by goes to
// single steps that still fit. Taking the step that saves most per byte until none fits is not
// enough: where an embedding is a sixth of the model, small steps take the room that its one step
// needs. Among equal costs the smaller choice is taken; the result depends on nothing else.
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
// A walk along the lower convex hulls of (bytes, cost), the step that saves most cost per byte
// next: sizes rising, costs falling.
std::vector<Selection> frontier(const Menu& menu);

}  // namespace lapidary
