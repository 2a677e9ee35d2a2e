// One tensor exchanged is that tensor and no other; a step that begins at a layer ends where the
// whole step does.
#include "runtime/model_overlay.h"

#include <gtest/gtest.h>

#include "quantize/quantize.h"
#include "runtime/engine.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

class Overlay : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    base_ = converted_path(GetParam());
    rounded_ = folder_.file("rounded.lap");
    QuantizeOptions options;
    options.weights = Code::kW3;
    quantize(*LapReader::open(base_), rounded_, options, {});
  }

  static std::vector<float> logits(Engine& engine, Sequence& sequence) {
    sequence.truncate(0);
    const BatchItem item{&sequence, kTokens, 0};
    const auto out = engine.step({&item, 1});
    return {out.begin(), out.end()};
  }

  static EngineOptions options() {
    EngineOptions options;
    options.n_threads = 2;
    options.activations = ActivationType::k16Bit;
    return options;
  }

  static inline const std::vector<int32_t> kTokens{2, 100, 200, 300, 400, 250, 350, 150, 50};
  TemporaryFolder folder_;
  std::string base_, rounded_;
};

TEST_P(Overlay, AllTensorsExchangedAreTheOtherModelAndRestoredTheBase) {
  ModelOverlay overlay(base_, rounded_);
  Engine exact(Model::load(base_), options()), other(Model::load(rounded_), options()),
      mixed(overlay.model(), options());
  const auto sequence = mixed.new_sequence(64, KvCode::kF32);
  const std::vector<float> before = logits(exact, *sequence), after = logits(other, *sequence);
  EXPECT_EQ(logits(mixed, *sequence), before);
  for (const SourceTensor& t : overlay.model()->file().tensors()) overlay.replace(t.name);
  EXPECT_EQ(logits(mixed, *sequence), after);
  EXPECT_NE(before, after);
  for (const SourceTensor& t : overlay.model()->file().tensors()) overlay.restore(t.name);
  EXPECT_EQ(logits(mixed, *sequence), before);
}

// Bit for bit, although earlier layers' K and V and the stream are those of the step before.
TEST_P(Overlay, AStepFromALayerOnIsTheWholeStep) {
  ModelOverlay overlay(base_, rounded_);
  Engine engine(overlay.model(), options());
  const int n_layers = overlay.model()->config().n_layers();
  const auto sequence = engine.new_sequence(64, KvCode::kF32);
  std::vector<std::vector<float>> entering(static_cast<size_t>(n_layers) + 2);
  engine.set_tap([&](int layer, const float* hidden, int64_t n) {
    entering[static_cast<size_t>(layer)].assign(hidden,
                                                hidden + n * overlay.model()->config().d_model);
  });
  logits(engine, *sequence);
  engine.set_tap({});
  for (int layer = n_layers; layer-- > 0;) {
    const std::string name = fmt::format("model.layers.{}.mlp.down_proj.weight", layer);
    ASSERT_TRUE(overlay.replace(name));
    sequence->truncate(0);
    const BatchItem item{sequence.get(), kTokens, 0};
    const auto out =
        engine.step_from({layer, entering[static_cast<size_t>(layer)].data()}, {&item, 1});
    const std::vector<float> partial(out.begin(), out.end());
    const auto fresh = engine.new_sequence(64, KvCode::kF32);
    EXPECT_EQ(partial, logits(engine, *fresh)) << "layer " << layer;
    overlay.restore(name);
  }
}

TEST_P(Overlay, VectorsAndUnknownNamesAreNoMatrices) {
  ModelOverlay overlay(base_, rounded_);
  EXPECT_FALSE(overlay.replace("model.norm.weight"));
  EXPECT_FALSE(overlay.replace("model.layers.99.mlp.up_proj.weight"));
}

INSTANTIATE_TEST_SUITE_P(Models, Overlay,
                         testing::Values("nano-e", "tiny-llama3", "tiny-gemma4-omni"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace lapidary
