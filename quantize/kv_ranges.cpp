// The cache itself is read, in float32, after every window.
#include "quantize/kv_ranges.h"

#include <algorithm>
#include <cmath>

#include "quantize/budget.h"
#include "quantize/output_divergence.h"
#include "runtime/engine.h"

namespace lapidary {
namespace {

float most(float so_far, const void* values, int n) {
  const float* v = static_cast<const float*>(values);
  for (int i = 0; i < n; ++i) so_far = std::max(so_far, std::abs(v[i]));
  return so_far;
}

}  // namespace

std::vector<KvRange> measure_kv_ranges(const std::string& model_path, const KvRangeOptions& options,
                                       const Events& events) {
  const std::vector<int32_t> tokens = budget_tokens(model_path, options.text);
  EngineOptions how;
  how.n_threads = options.n_threads;
  how.max_batch_tokens = kWindowTokens;
  how.activations = ActivationType::k16Bit;
  Engine engine(Model::load(model_path), how);
  const ModelConfig& config = engine.model().config();
  const auto sequence = engine.new_sequence(kWindowTokens, KvOptions(KvCode::kF32));
  const TokenWindows windows = windows_of_tokens(config, tokens, options.n_tokens, false);
  std::vector<KvRange> ranges(config.layers.size());
  for (size_t w = 0; w < windows.size(); ++w) {
    events.progress({"windows", w, windows.size()});
    sequence->truncate(0);
    const auto n = static_cast<int64_t>(windows[w].size());
    const BatchItem item{sequence.get(), windows[w], n};
    engine.step({&item, 1});
    for (int l = 0; l < config.n_layers(); ++l) {
      if (!config.owns_kv(l)) continue;
      const LayerConfig& layer = config.layers[static_cast<size_t>(l)];
      KvRange& range = ranges[static_cast<size_t>(l)];
      for (int head = 0; head < layer.n_kv_heads; ++head)
        for (int64_t at = 0; at < n; ++at) {
          const Sequence::Slot slot = sequence->slot(l, at, head);
          range.keys = most(range.keys, slot.keys, layer.head_dim);
          range.values = most(range.values, slot.values, layer.head_dim);
        }
    }
  }
  for (int l = 0; l < config.n_layers(); ++l)
    if (!config.owns_kv(l))
      ranges[static_cast<size_t>(l)] =
          ranges[static_cast<size_t>(config.layers[static_cast<size_t>(l)].kv_source)];
  return ranges;
}

}  // namespace lapidary
