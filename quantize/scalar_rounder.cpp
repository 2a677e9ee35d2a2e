// One scale block of 64 rows: scales from the search, refitted; each row keeps its best.
#include "quantize/scalar_rounder.h"

#include <algorithm>

#include "kernels/kernels.h"
#include "kernels/pack_lines.h"
#include "quantize/scalar_search.h"

namespace lapidary {
namespace {

using scalar::BlockSearch, scalar::Choice, scalar::kRows;

// Rows of `from` that lose less replace those of `to`.
void keep_better(const Choice& from, const float* from_values, int n_k, Choice* to, float* values) {
  alignas(64) bool better[kRows];
  for (int row = 0; row < kRows; ++row) better[row] = from.losses[row] < to->losses[row];
  const auto take = [&](auto& into, const auto& out_of) {
    for (int row = 0; row < kRows; ++row) into[row] = better[row] ? out_of[row] : into[row];
  };
  for (int k = 0; k < n_k; ++k) {
    take(to->levels[k], from.levels[k]);
    for (int row = 0; row < kRows; ++row)
      if (better[row]) values[k * kRows + row] = from_values[k * kRows + row];
  }
  for (int g = 0; g < kMostGroups; ++g) take(to->multipliers[g], from.multipliers[g]);
  take(to->scales, from.scales);
  take(to->losses, from.losses);
}

// Columns [first, first + n) of a block.
StripBlock part_of(const StripBlock& block, int first, int n) {
  StripBlock part = block;
  part.first_k += first;
  part.n_k = n;
  part.k_in_batch += first;
  part.weights += first * kRows;
  part.targets += first * kRows;
  part.values += first * kRows;
  part.importance += first;
  return part;
}

// The errors of columns [first, end) reach the targets of those in front.
void feed_back(const StripBlock& block, int first, int end) {
  for (int j = 0; j < first; ++j)
    for (int k = first; k < end; ++k) {
      const float l = *block.feedback.at(block.k_in_batch + k, block.k_in_batch + j);
      for (int row = 0; row < kRows; ++row)
        block.targets[j * kRows + row] +=
            l * (block.weights[k * kRows + row] - block.values[k * kRows + row]);
    }
}

}  // namespace

ScalarRounder::ScalarRounder(const PanelStore& store, const ScalarRounding& options)
    : store_(store), options_(options) {}

// At least a tile, which is stored whole: of codes with a scale per 32 two scale blocks.
int ScalarRounder::block_k() const { return std::max(traits(store_.g.code).scale_k, kTileK); }

void ScalarRounder::round(const StripBlock& block) {
  const int n_used = store_.used_columns(block), scale_k = traits(store_.g.code).scale_k;
  std::fill_n(block.values + n_used * kRows, (block.n_k - n_used) * kRows, 0.0f);
  Choice best{};
  if (scale_k >= block.n_k) {
    if (n_used > 0) choose(part_of(block, 0, n_used), &best);
    return store_levels(block, n_used, best);
  }
  Choice part_best{};
  for (int first = (block.n_k - 1) / scale_k * scale_k; first >= 0; first -= scale_k) {
    const int n = std::min(scale_k, n_used - first);
    if (n <= 0) continue;
    choose(part_of(block, first, n), &part_best);
    std::copy_n(part_best.levels[0], n * kRows, best.levels[first]);
    feed_back(block, first, first + n);
  }
  store_levels(block, n_used, best);
}

// Chooses one scale block, stores its scales and multipliers.
void ScalarRounder::choose(const StripBlock& block, Choice* best) {
  const int n_k = block.n_k;
  alignas(64) float trial_values[kMostBlockK * kRows];
  BlockSearch search(store_.g, block, n_k);
  search.start(best);
  search.round(best, block.values);
  Choice last = *best, trial;
  std::copy_n(block.values, n_k * kRows, trial_values);
  for (int i = 0; i < options_.refits; ++i) {
    search.refit(last, trial_values, &trial);
    search.round(&trial, trial_values);
    keep_better(trial, trial_values, n_k, best, block.values);
    last = trial;
  }
  const PackedGeometry& g = store_.g;
  for (int first = 0; first < block.n_rows; first += kPanelRows) {
    const int n_rows = std::min(kPanelRows, block.n_rows - first);
    float scales[kPanelRows] = {};
    std::copy_n(best->scales + first, n_rows, scales);
    store_.put_scales(block, first, scales);
    for (int i = 0; traits(g.code).multiplier_bits > 0 && i * kGroupK < n_k; ++i) {
      int8_t multipliers[kPanelRows] = {};
      std::copy_n(best->multipliers[i] + first, n_rows, multipliers);
      pack_group_multipliers(g, block.first_k / kGroupK + i, multipliers,
                             store_.meta_of(block, first));
    }
  }
}

void ScalarRounder::store_levels(const StripBlock& block, int n_used, const Choice& choice) {
  const PackedGeometry& g = store_.g;
  const scalar::LevelIndices index_of(g.code);
  const uint8_t padding = padding_index(g.code);
  for (int first = 0; first < block.n_rows; first += kPanelRows) {
    const int n_rows = std::min(kPanelRows, block.n_rows - first);
    for (int tile = 0; tile < block.n_k; tile += kTileK) {
      alignas(64) uint8_t lines[kTileLineBytes];
      for (int k = tile; k < tile + kTileK; ++k)
        for (int r = 0; r < kPanelRows; ++r)
          lines[line_index(r, k - tile)] =
              k < n_used && r < n_rows ? index_of[choice.levels[k][first + r]] : padding;
      store_.put_lines(block, first, tile, lines);
    }
  }
}

}  // namespace lapidary
