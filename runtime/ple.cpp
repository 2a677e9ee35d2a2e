// Per-layer embeddings: a second, small embedding of every token for every layer (Gemma 4 E
// models). The table is large and each token needs one row of it, so rows are read with pread and
// never count as resident. Formulas: transformers' modeling_gemma4.py.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/forward.h"

namespace lapidary {
namespace {

struct Range {
  int64_t first, count;
  bool contains(int64_t i) const { return i >= first && i < first + count; }
};

}  // namespace

// Before anything else of a step: this is the only part that can fail.
void Forward::read_ple() {
  Workspace& ws = workspace_;
  const RowTableGeometry& table = model_.ple_geometry;
  for (int64_t t = 0; t < n(); ++t)
    model_.ple_file->read_at(
        model_.ple_table->offset +
            static_cast<uint64_t>(ws.rows[t].token) * static_cast<uint64_t>(table.row_bytes),
        {ws.ple_bytes.row(t, table.row_bytes), static_cast<size_t>(table.row_bytes)});
}

void Forward::combine_ple() {
  Workspace& ws = workspace_;
  const RowTableGeometry& table = model_.ple_geometry;
  const int64_t width = config_.ple_width, n_layers = config_.n_layers(), all = n_layers * width;
  const MatrixView& projection = model_.ple_model_projection;
  // Layers from the last one that owns K and V on meet wanted rows only (drop_unwanted_rows).
  const auto is_wanted = [](const Row& row) { return row.wanted; };
  const auto first = std::find_if(ws.rows.begin(), ws.rows.end(), is_wanted);
  const auto last = std::find_if(ws.rows.rbegin(), ws.rows.rend(), is_wanted).base();
  const Range far{first - ws.rows.begin(), std::max<int64_t>(0, last - first)};
  const int64_t near = last_kv_layer_;
  const bool splits = far.count < n() && near > 0 && near * width % kPanelRows == 0 &&
                      !linear_.any_adapted(ws.rows, projection);
  if (splits) {
    const MatrixView near_rows = rows_of(projection, 0, near * width);
    const MatrixView far_rows = rows_of(projection, near * width, all - near * width);
    linear_.multiply(ws.hidden.data(), ws.rows, config_.d_model,
                     {{.w = &near_rows, .y = ws.ple.data(), .ldy = all},
                      {.w = &far_rows,
                       .y = ws.ple.data() + near * width,
                       .first = far.first,
                       .n_rows = far.count,
                       .ldy = all}});
  } else {
    linear_.multiply(ws.hidden.data(), ws.rows, config_.d_model, {{&projection, ws.ple.data()}});
  }
  pool_.run(n(), [&](int64_t t) {
    const int64_t n_here = splits && !far.contains(t) ? near : n_layers;
    float* token = ws.ple_token.row(t, all);
    const uint8_t* records = ws.ple_bytes.row(t, table.row_bytes);
    for (int64_t l = 0; l < n_here; ++l)
      unpack_record(table, model_.ple_table->scale_type,
                    {records + l * table.record_bytes, static_cast<size_t>(table.record_bytes)},
                    {token + l * width, static_cast<size_t>(width)});
    mix_ple(ws.ple.row(t, all), token, n_here);
  });
}

// Only one layer's part, where rows of the projection can stand alone.
void Forward::combine_ple_of(int layer) {
  Workspace& ws = workspace_;
  const int64_t width = config_.ple_width, all = config_.n_layers() * width;
  const MatrixView part = rows_of(model_.ple_model_projection, layer * width, width);
  linear_.multiply(ws.hidden.data(), ws.rows, config_.d_model, {{&part, ws.ple_gate.data()}});
  pool_.run(n(), [&](int64_t t) {
    float* out = ws.ple.row(t, all) + layer * width;
    std::copy_n(ws.ple_gate.row(t, width), width, out);
    mix_ple(out, ws.ple_token.row(t, all) + layer * width, 1);
  });
}

// out = (norm(projection(h0) / sqrt(d_model)) + sqrt(width) * table row) / sqrt(2), `out` being the
// projection at first.
void Forward::mix_ple(float* out, const float* token, int64_t n_layers) const {
  const int64_t width = config_.ple_width;
  const float projection_scale = 1.0f / std::sqrt(static_cast<float>(config_.d_model));
  const float token_scale = std::sqrt(static_cast<float>(width));
  const float mix = 1.0f / std::numbers::sqrt2_v<float>;
  const float offset = config_.norm_unit_offset ? 1.0f : 0.0f;
  for (int64_t i = 0; i < n_layers * width; ++i) out[i] *= projection_scale;
  kernels_.rms_norm(out, model_.ple_projection_norm.data(), offset, config_.norm_eps, n_layers,
                    width, out);
  for (int64_t i = 0; i < n_layers * width; ++i) out[i] = (out[i] + token[i] * token_scale) * mix;
}

// branch = projection(activation(gate(hidden)) * ple)
void Forward::inject_ple(int layer) {
  Workspace& ws = workspace_;
  const LayerWeights& weights = model_.layers[layer];
  const int64_t width = config_.ple_width;
  linear_.multiply(ws.hidden.data(), ws.rows, config_.d_model,
                   {{&weights.ple_gate, ws.ple_gate.data()}}, [&](int64_t t) { join_branch(t); });
  linear_.multiply(ws.ple_gate.data(), ws.rows, width,
                   {{&weights.ple_projection, ws.branch.data()}}, [&](int64_t t) {
                     float* gate = ws.ple_gate.row(t, width);
                     const int64_t all = config_.n_layers() * width;
                     gated_(gate, ws.ple.row(ws.rows[t].source, all) + layer * width, width, gate);
                   });
  leave_branch(weights.post_ple_norm);
}

}  // namespace lapidary
