// Scalar codes under error feedback: scales and multipliers are chosen when their columns are
// reached, from the targets, then columns are rounded one by one with feedback inside the block.
//
// A block's scales come from the same search as plain rounding (kernels/rounding.h), taken over the
// targets, and are then refitted by least squares in the metric of the outputs, which sees the
// feedback inside the block; each refit rounds the block anew, and every row keeps its best. The
// multiplier of a group of 32 is chosen among the neighbours of the search's, by the error that
// rounding the group with feedback leaves.
//
// Codes with a scale per 32 hand their two scale blocks of a tile out together, from the last on.
#pragma once

#include "quantize/block_rounder.h"

namespace lapidary {

namespace scalar {
struct Choice;  // scalar_search.h
}

struct ScalarRounding {
  int refits = 2;  // of a block's scales
};

class ScalarRounder : public BlockRounder {
 public:
  ScalarRounder(const PanelStore& store, const ScalarRounding& options);

  int block_k() const override;
  void round(const StripBlock& block) override;
  double improve(const SweepBlock& batch) override;  // scalar_sweep.cpp
  bool improves() const override { return true; }

 private:
  void choose(const StripBlock& block, scalar::Choice* best);
  void store_levels(const StripBlock& block, int n_used, const scalar::Choice& choice);

  PanelStore store_;
  ScalarRounding options_;
};

}  // namespace lapidary
