// Embedding rows are read one by one: the embedding itself may be a gigabyte, a text touches some
// thousands of its rows.
#include "quantize/hidden_states.h"

#include <algorithm>
#include <cmath>

#include "formats/error.h"
#include "formats/lap_copy.h"

namespace lapidary {
namespace {

size_t index_of(const ModelSource& source, std::string_view name) {
  for (size_t i = 0; i < source.tensors().size(); ++i)
    if (source.tensors()[i].name == name) return i;
  fail(ErrorCode::kBadData, "{}: tensor {} is missing", source.describe(), name);
}

bool all_finite(std::span<const float> values) {
  float magnitudes = 0;
  for (const float value : values) magnitudes += std::fabs(value) * 1e-10f;  // cannot overflow
  return std::isfinite(magnitudes);
}

}  // namespace

HiddenStates::HiddenStates(const ModelSource& source, const CalibrationWindows& text)
    : text_(text), config_(source.metadata().config), name_(source.describe()) {
  const int64_t d_model = config_.d_model;
  hidden_ = FloatMatrix(text.n_tokens, d_model);
  const size_t embedding = index_of(source, "model.embed_tokens.weight");
  std::unordered_map<int32_t, int64_t> seen;  // token -> a row that holds it
  int64_t at = 0;
  for (const std::vector<int32_t>& window : text.windows) {
    first_.push_back(at);
    for (const int32_t token : window) {
      float* row = hidden_.row(at);
      if (const auto [found, is_new] = seen.emplace(token, at); !is_new) {
        std::copy_n(hidden_.row(found->second), d_model, row);
      } else {
        source.read_rows(embedding, token, 1, {row, static_cast<size_t>(d_model)});
        for (int64_t i = 0; i < d_model; ++i) row[i] *= config_.embedding_scale;
      }
      ++at;
    }
  }
  if (config_.ple_width == 0) return;
  embedded_ = FloatMatrix(text.n_tokens, d_model);
  std::copy_n(hidden_.data(), text.n_tokens * d_model, embedded_.data());
  read_ple(source);
}

void HiddenStates::read_ple(const ModelSource& source) {
  const size_t table = index_of(source, kPleTensor);
  for (const std::vector<int32_t>& window : text_.windows)
    for (const int32_t token : window)
      ple_row_.emplace(token, static_cast<int64_t>(ple_row_.size()));
  const int64_t width = source.tensors()[table].k();
  ple_table_ = FloatMatrix(static_cast<int64_t>(ple_row_.size()), width);
  for (const auto& [token, row] : ple_row_)
    source.read_rows(table, token, 1, {ple_table_.row(row), static_cast<size_t>(width)});
}

const float* HiddenStates::ple_rows(int64_t window, int layer) {
  const std::vector<int32_t>& tokens = text_.windows[static_cast<size_t>(window)];
  const int64_t width = config_.ple_width;
  ple_.resize(tokens.size() * static_cast<size_t>(width));
  for (size_t t = 0; t < tokens.size(); ++t)
    std::copy_n(ple_table_.row(ple_row_.at(tokens[t])) + layer * width, width,
                ple_.data() + t * static_cast<size_t>(width));
  return ple_.data();
}

void HiddenStates::run_layer(LayerWalk& walk, int layer, bool keep,
                             const std::function<void(int64_t)>& after_window) {
  const bool shares = walk.shares_kv(layer), owns = config_.owns_kv(layer);
  const int source = config_.layers[static_cast<size_t>(layer)].kv_source;
  if (shares && owns && !shared_kv_.contains(layer))
    shared_kv_[layer] = FloatMatrix(text_.n_tokens, walk.kv_floats(layer, 1));
  for (int64_t w = 0; w < n_windows(); ++w) {
    const int64_t n = n_tokens(w), d_model = config_.d_model;
    float* states = hidden_.row(first(w));
    if (!keep) {
      work_.assign(states, states + n * d_model);
      states = work_.data();
    }
    LayerWalk::Pass pass{states, n};
    if (shares) pass.kv = shared_kv_.at(source).row(first(w));
    if (config_.ple_width > 0) {
      pass.embedded = embedded_.row(first(w));
      pass.ple = ple_rows(w, layer);
    }
    walk.run(layer, pass);
    if (!all_finite({states, static_cast<size_t>(n * d_model)}))
      fail(ErrorCode::kBadData,
           "{}: layer {} gives NaN or infinity on the calibration text; its weights are damaged",
           name_, layer);
    after_window(w);
  }
  // Nobody reads what no later layer shares.
  if (!keep) return;
  for (auto kv = shared_kv_.begin(); kv != shared_kv_.end();) {
    bool wanted = false;
    for (int later = layer + 1; later < config_.n_layers(); ++later)
      wanted = wanted || config_.layers[static_cast<size_t>(later)].kv_source == kv->first;
    kv = wanted ? std::next(kv) : shared_kv_.erase(kv);
  }
}

}  // namespace lapidary
