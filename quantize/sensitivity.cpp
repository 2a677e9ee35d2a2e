// The loop over tensors, last layer first: see OutputDivergence::kld().
#include "quantize/sensitivity.h"

#include <algorithm>
#include <charconv>
#include <numeric>

namespace lapidary {
namespace {

// The layer whose input a change of this tensor leaves alone; -1: none.
int first_layer_of(const std::string& tensor, int n_layers) {
  constexpr std::string_view kLayers = "model.layers.";
  if (tensor == "lm_head.weight") return n_layers;
  if (!tensor.starts_with(kLayers)) return -1;
  int layer = -1;
  std::from_chars(tensor.data() + kLayers.size(), tensor.data() + tensor.size(), layer);
  return layer;
}

}  // namespace

std::vector<Sensitivity> measure_sensitivity(ModelOverlay& overlay, const TokenWindows& windows,
                                             const std::vector<std::string>& tensors, int n_threads,
                                             const Events& events) {
  OutputDivergence output(overlay.model(), windows, n_threads, events);
  const int n_layers = overlay.model()->config().n_layers();
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return first_layer_of(tensors[a], n_layers) > first_layer_of(tensors[b], n_layers);
  });
  std::vector<Sensitivity> result(tensors.size());
  Progress progress{.what = "tensors", .done = 0, .total = tensors.size()};
  for (const size_t i : order) {
    const std::string& tensor = tensors[i];
    result[i].tensor = progress.detail = tensor;
    if (overlay.replace(tensor)) {
      result[i].kld = output.kld(first_layer_of(tensor, n_layers));
      overlay.restore(tensor);
    }
    ++progress.done;
    events.progress(progress);
  }
  return result;
}

}  // namespace lapidary
