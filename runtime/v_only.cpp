// Tables of angles, computed in double and rounded once.
#include "runtime/v_only.h"

#include <cmath>

#include "kernels/kv_pages.h"
#include "runtime/kv_options.h"
#include "runtime/rope_table.h"

namespace lapidary {

std::vector<VOnlyLayer> v_only_layers(const Model& model) {
  const ModelConfig& config = model.config();
  std::vector<VOnlyLayer> layers(config.layers.size());
  for (int l = 0; l < config.n_layers(); ++l) {
    if (!config.owns_kv(l) || !can_store_v_only(config, l)) continue;
    const LayerConfig& shape = config.layers[l];
    VOnlyLayer& layer = layers[static_cast<size_t>(l)];
    layer.n_rotary = rotary_dims(shape);
    layer.w_k = model.layers[static_cast<size_t>(l)].k_norm;
    for (float& w : layer.w_k) w += config.norm_unit_offset ? 1.0f : 0.0f;
    layer.weights.resize(static_cast<size_t>(layer.n_rotary));
    rotary_weights(layer.w_k.data(), shape.head_dim, layer.n_rotary, layer.weights.data());
    const std::vector<double> frequencies = rope_frequencies(shape.rope, shape.head_dim);
    for (int i = 0; i < layer.n_rotary / 2; ++i)
      for (int position = 0; position < kPageTokens; ++position) {
        const double angle = position * frequencies[static_cast<size_t>(i)];
        layer.cosines.push_back(static_cast<float>(std::cos(angle)));
        layer.sines.push_back(static_cast<float>(std::sin(angle)));
      }
  }
  return layers;
}

std::vector<float> page_angles(const LayerConfig& layer, int64_t n_pages) {
  const int n_pairs = rotary_dims(layer) / 2;
  const std::vector<double> frequencies = rope_frequencies(layer.rope, layer.head_dim);
  std::vector<float> angles;
  angles.reserve(static_cast<size_t>(n_pages * 2 * n_pairs));
  for (int64_t page = 0; page < n_pages; ++page)
    for (const auto function :
         {+[](double x) { return std::cos(x); }, +[](double x) { return std::sin(x); }})
      for (int i = 0; i < n_pairs; ++i)
        angles.push_back(static_cast<float>(function(static_cast<double>(page * kPageTokens) *
                                                     frequencies[static_cast<size_t>(i)])));
  return angles;
}

}  // namespace lapidary
