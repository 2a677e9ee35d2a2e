// The head: logits of the wanted rows, or only the best of them; and sums of final states.
//
// The vocabulary is long: one row of logits is a megabyte that most callers read only to find its
// largest values. So the thread that has made some logits soft-caps them while they are in its
// cache and, when only the best are asked for, keeps those and lets the rest go. The cap is applied
// before the choice although it is monotonic: it rounds different sums to the same logit, and then
// the lowest id has to win here as well as in a full row.
#include <algorithm>

#include "runtime/forward.h"
#include "runtime/lanes.h"

namespace lapidary {
namespace {

// Vocabulary rows under one work item: at 4 bits some hundred KB of weights.
constexpr int64_t kBlockPanels = 32;
constexpr int64_t kBlockRows = kBlockPanels * kPanelRows;
constexpr int64_t kTokensAtOnce = 32;  // whose block of logits is in cache: 64 KiB

}  // namespace

// Adds final states where they are asked for, then drops the rows that are wanted for nothing else.
void Forward::sum_states() {
  Workspace& ws = workspace_;
  const int64_t d_model = config_.d_model;
  if (std::none_of(ws.rows.begin(), ws.rows.end(), [](const Row& row) { return row.state_sum; }))
    return;
  normalize(model_.final_norm);
  size_t kept = 0;
  for (size_t t = 0; t < ws.rows.size(); ++t) {
    const int64_t row = static_cast<int64_t>(t);
    const float* state = ws.normed.row(row, d_model);
    if (double* sum = ws.rows[t].state_sum)
      for (int64_t i = 0; i < d_model; ++i) sum[i] += double{state[i]};
    if (!ws.rows[t].wants_logits) continue;
    if (kept != t) {
      ws.rows[kept] = ws.rows[t];
      std::copy_n(ws.hidden.row(row, d_model), d_model,
                  ws.hidden.row(static_cast<int64_t>(kept), d_model));
    }
    ++kept;
  }
  ws.rows.resize(kept);
}

void Forward::head(int n_best, const LayerTap& tap) {
  sum_states();
  if (workspace_.rows.empty()) return;
  Workspace& ws = workspace_;
  const int64_t vocab = config_.vocab_size;
  const Product product{&model_.head, ws.logits.data()};
  const auto make_normed = [&](int64_t t) { norm(t, ws.hidden, model_.final_norm, ws.normed); };
  Linear& linear = linear_for(model_.head);
  const bool adapted = linear.any_adapted(ws.rows, model_.head);
  if (adapted) {
    linear.multiply(ws.normed.data(), ws.rows, config_.d_model, {product}, make_normed);
  } else {
    linear.begin(ws.normed.data(), n(), config_.d_model, {&product, 1});
    linear.each_row(n(), [&](int64_t t) {
      make_normed(t);
      linear.prepare_row(t);
    });
  }
  if (tap) tap(config_.n_layers() + 1, ws.normed.data(), n());
  for (int64_t t = 0; t < n(); ++t)
    if (float* state = ws.rows[static_cast<size_t>(t)].state)
      std::copy_n(ws.normed.row(t, config_.d_model), config_.d_model, state);

  const bool keep_logits = n_best == 0 || adapted;
  const int64_t n_lists = n() * n_best;
  std::fill_n(ws.lane_best.data(), n_lists * pool_.n_threads(), Candidate{});
  const int64_t n_blocks = (n_panels(model_.head) + kBlockPanels - 1) / kBlockPanels;
  run_in_lanes(pool_, n_blocks, [&](int64_t lane, int64_t block) {
    alignas(64) float scratch[kTokensAtOnce * kBlockRows];
    const int64_t panel = block * kBlockPanels, row = panel * kPanelRows;
    const int64_t panels = std::min(kBlockPanels, n_panels(model_.head) - panel);
    const int64_t n_rows = std::min(kBlockRows, vocab - row);
    // Kernels index outputs by the matrix's row: shift the scratch accordingly.
    float* const y = keep_logits ? ws.logits.data() : scratch - row;
    const int64_t ldy = keep_logits ? vocab : kBlockRows;
    const int64_t at_once = keep_logits ? n() : kTokensAtOnce;
    for (int64_t t0 = 0; t0 < n(); t0 += at_once) {
      const int64_t n_here = std::min(at_once, n() - t0);
      if (!adapted) linear.run_rows(model_.head, panel, panels, t0, n_here, y, ldy);
      for (int64_t t = 0; t < n_here; ++t) {
        float* logits = y + t * ldy + row;
        if (config_.logit_softcap != 0.0f) kernels_.softcap(logits, n_rows, config_.logit_softcap);
        if (n_best > 0)
          keep_best({logits, static_cast<size_t>(n_rows)}, row,
                    {ws.lane_best.row(lane * n_lists + (t0 + t) * n_best, 1),
                     static_cast<size_t>(n_best)});
      }
    }
  });

  std::copy_n(ws.lane_best.data(), n_lists, ws.best.data());
  for (int64_t lane = 1; lane < pool_.n_threads(); ++lane)
    for (int64_t i = 0; i < n_lists; ++i)
      keep_best(ws.lane_best.data()[lane * n_lists + i],
                {ws.best.row(i / n_best, n_best), static_cast<size_t>(n_best)});
}

}  // namespace lapidary
