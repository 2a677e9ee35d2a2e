// The walk over layers against the engine: the same hidden states, bit for bit, and the taps see
// what the matrices see.
#include "runtime/layer_walk.h"

#include <gtest/gtest.h>

#include <set>

#include "kernels/kernels.h"
#include "quantize/hidden_states.h"
#include "quantize/source_store.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

CalibrationWindows some_windows(int vocab_size) {
  CalibrationWindows text;
  for (const int length : {150, 7, 200}) {  // past the window of 128; short; another length
    std::vector<int32_t> window;
    for (int i = 0; i < length; ++i) window.push_back((i * i * 37 + 11 * length) % vocab_size);
    text.n_tokens += length;
    text.windows.push_back(std::move(window));
  }
  return text;
}

class LayerWalkOf : public testing::TestWithParam<const char*> {};

TEST_P(LayerWalkOf, GivesTheEnginesHiddenStates) {
  const std::string folder = checkpoint_folder(GetParam());
  LAPIDARY_SKIP_WITHOUT(folder);
  const std::shared_ptr<const Model> model = converted_model(GetParam());
  const ModelConfig& config = model->config();
  const CalibrationWindows text = some_windows(config.vocab_size);

  std::vector<std::vector<std::vector<float>>> expected;  // [window][layer]
  EngineOptions options{.n_threads = 2, .max_batch_tokens = 256, .max_logits = 256};
  options.activations = ActivationType::k16Bit;
  Engine engine(model, options);
  for (const std::vector<int32_t>& window : text.windows) {
    expected.emplace_back();
    engine.set_tap([&](int, const float* hidden, int64_t n) {
      expected.back().emplace_back(hidden, hidden + n * config.d_model);
    });
    logits_of(engine, window, KvOptions(KvCode::kF32));
  }

  const auto source = HfSource::open(folder);
  SourceStore store(*source);
  LayerWalk walk(config, store, 200, 1);
  HiddenStates states(*source, text);
  if (config.ple_width > 0)
    for (size_t i = 0; i < source->tensors().size(); ++i)
      if (source->tensors()[i].name == "model.per_layer_model_projection.weight") store.load(i);
  walk.load_rest();
  std::set<const MatrixView*> seen;
  int64_t n_seen = 0;
  for (int l = 0; l < config.n_layers(); ++l) {
    const std::string prefix = fmt::format("model.layers.{}.", l);
    for (size_t i = 0; i < source->tensors().size(); ++i)
      if (source->tensors()[i].name.starts_with(prefix)) store.load(i);
    walk.load_layer(l);
    walk.set_tap([&](const MatrixInput& input) {
      for (const MatrixView* w : input.matrices) {
        EXPECT_EQ(w->k, input.k);
        EXPECT_NE(w->codes, nullptr);
        seen.insert(w);
      }
      n_seen += input.n_rows;
    });
    states.run_layer(walk, l, /*keep=*/false, [](int64_t) {});  // leaves everything as it was
    walk.set_tap({});
    const int64_t n_before = n_seen;
    states.run_layer(walk, l, /*keep=*/true, [&](int64_t w) {
      const auto& hidden = expected[static_cast<size_t>(w)][static_cast<size_t>(l) + 1];
      ASSERT_TRUE(std::equal(hidden.begin(), hidden.end(), states.hidden(w)))
          << "layer " << l << " window " << w;
    });
    EXPECT_EQ(n_seen, n_before);
    const LayerWeights& weights = walk.model().layers[static_cast<size_t>(l)];
    for (const MatrixView* m :
         {&weights.q, &weights.k, &weights.v, &weights.o, &weights.gate, &weights.up, &weights.down,
          &weights.router, &weights.ple_gate, &weights.ple_projection})
      EXPECT_EQ(seen.contains(m), m->rows > 0);
    for (const MatrixView& m : weights.expert_gate_up) EXPECT_TRUE(seen.contains(&m));
    for (size_t i = 0; i < source->tensors().size(); ++i)
      if (source->tensors()[i].name.starts_with(prefix)) store.drop(i);
  }
  EXPECT_TRUE(states.shared_kv().empty());
}

INSTANTIATE_TEST_SUITE_P(Models, LayerWalkOf,
                         testing::Values("nano-e", "small-dense", "small-moe", "tiny-gemma3",
                                         "tiny-llama3", "tiny-qwen3"));

}  // namespace
}  // namespace lapidary
