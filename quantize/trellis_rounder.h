// Trellis codes under error feedback: a scale block's scales are chosen from the targets, then
// sequences of 16 columns are searched one after another, each with the feedback of those behind.
//
// Inside a sequence no column can wait for another's error. Its targets are instead what would
// leave none at all, and an error of column k counts as much as H says that it does by itself:
// together the best a search can do that weighs steps one by one.
#pragma once

#include "quantize/block_rounder.h"

namespace lapidary {

struct TrellisRounding {
  int refits = 0;  // of a block's scales, each followed by another search
};

class TrellisRounder : public BlockRounder {
 public:
  TrellisRounder(const PanelStore& store, const TrellisRounding& options);

  int block_k() const override;
  void round(const StripBlock& block) override;
  double improve(const SweepBlock& batch) override;  // trellis_sweep.cpp
  bool improves() const override { return true; }

 private:
  PanelStore store_;
  TrellisRounding options_;
};

}  // namespace lapidary
