// The twin against transformers' recorded outputs, and against the engine layer by layer: two
// forward passes written apart from each other that must mean the same model.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "finetune/trainer.h"
#include "formats/safetensors.h"
#include "runtime/engine.h"
#include "tests/finetune/fixtures.h"

namespace lapidary {
namespace {

Trainer without_adapter(const std::string& model) {
  return {Model::load(model), PeftAdapter{}, {}};
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, std::abs(double{a[i]} - b[i]));
  return worst;
}

// The last rows of the twin's logits against those of transformers in float32.
void check_logits(const std::string& folder, const std::string& ids_name,
                  const std::string& logits_name) {
  Trainer twin = without_adapter(converted(folder));
  const auto set = SafetensorsSet::open_file(folder + "/reference/logits.safetensors");
  const std::vector<int32_t> ids = set.read_ints(*set.find(ids_name));
  const FloatTensor expected = read_tensor(set, logits_name);
  const std::vector<float> all = twin.logits(ids);
  const auto tail = std::span(all).last(expected.values.size());
  // Issue's parity bound for float32 on bf16 weights; measured 1e-5 to 1e-4.
  EXPECT_LT(largest_difference(tail, expected.values), 1e-3) << folder << " " << ids_name;
}

TEST(ModelTwin, GivesTransformersLogitsForNanoE) {
  // Prompt 6 is a needle in 1,400 tokens: many windows of the sliding layers.
  for (const int prompt : {0, 2, 6})
    check_logits(data_path("nano-e"), "ids." + std::to_string(prompt),
                 "logits." + std::to_string(prompt));
}

class TinyTwin : public testing::TestWithParam<const char*> {};
TEST_P(TinyTwin, GivesTransformersLogits) { check_logits(data_path(GetParam()), "ids", "logits"); }
INSTANTIATE_TEST_SUITE_P(ModelTwin, TinyTwin,
                         testing::Values("tiny-gemma3", "tiny-llama3", "tiny-qwen3",
                                         "tiny-gemma4-omni"));

class SharedTwin : public testing::TestWithParam<const char*> {};
TEST_P(SharedTwin, GivesTransformersLogits) {
  const std::string folder = shared_path(std::string("checkpoints/") + GetParam());
  LAPIDARY_SKIP_WITHOUT(folder);
  check_logits(folder, "ids.2", "logits.2");
}
INSTANTIATE_TEST_SUITE_P(ModelTwin, SharedTwin, testing::Values("small-dense", "small-moe"));

using Layers = std::vector<std::vector<float>>;

Layers engine_layers(const std::string& path, std::span<const int32_t> ids) {
  EngineOptions options;
  options.n_threads = 2;
  options.max_batch_tokens = static_cast<int>(ids.size());
  options.max_logits = static_cast<int>(ids.size());
  options.activations = ActivationType::k16Bit;  // what the weights alone mean
  Engine engine(Model::load(path), options);
  Layers layers;
  engine.set_tap([&](int layer, const float* hidden, int64_t n_tokens) {
    layers.resize(std::max<size_t>(layers.size(), static_cast<size_t>(layer) + 1));
    layers[static_cast<size_t>(layer)].assign(hidden,
                                              hidden + n_tokens * engine.model().config().d_model);
  });
  const auto sequence = engine.new_sequence(static_cast<int64_t>(ids.size()), KvCode::kF32);
  const BatchItem item{sequence.get(), ids, 0, nullptr};
  engine.step({&item, 1});
  return layers;
}

// 200 tokens pass the sliding window of 128 and a tile of the twin's attention is cut at 256.
std::vector<int32_t> some_ids(const std::string& path, size_t n) {
  const int32_t vocab = Model::load(path)->config().vocab_size;
  std::vector<int32_t> ids{2};
  for (uint32_t i = 1; i < n; ++i)
    ids.push_back(static_cast<int32_t>(i * 2654435761u % static_cast<uint32_t>(vocab)));
  return ids;
}

void compare_layers(const std::string& path) {
  const std::vector<int32_t> ids = some_ids(path, 200);
  const Layers engine = engine_layers(path, ids);
  Trainer twin = without_adapter(path);
  size_t compared = 0;
  double worst = 0;
  twin.tap_layers(ids, [&](int layer, std::span<const float> hidden) {
    const auto& other = engine.at(static_cast<size_t>(layer));
    ASSERT_EQ(hidden.size(), other.size()) << "layer " << layer;
    double difference = 0, size = 0;
    for (size_t i = 0; i < hidden.size(); ++i) {
      difference += std::pow(double{hidden[i]} - other[i], 2);
      size += double{hidden[i]} * hidden[i];
    }
    // Two float32 summation orders over at most ten layers.
    EXPECT_LT(std::sqrt(difference / size), 2e-4) << path << " layer " << layer;
    worst = std::max(worst, std::sqrt(difference / size));
    ++compared;
  });
  std::printf("  %zu layers differ by at most %.1e (relative)\n", compared, worst);
  EXPECT_EQ(compared, engine.size());
}

TEST(ModelTwin, AgreesWithTheEngineLayerByLayer) {
  for (const char* name :
       {"nano-e", "tiny-gemma4-omni", "tiny-gemma3", "tiny-llama3", "tiny-qwen3"})
    compare_layers(converted(data_path(name)));
}
TEST(ModelTwin, AgreesWithTheEngineOnPackedWeights) {
  compare_layers(quantized(data_path("nano-e"), "w4"));
  compare_layers(quantized(data_path("tiny-gemma4-omni"), "w8"));
}
TEST(ModelTwin, AgreesWithTheEngineOnExperts) {
  const std::string folder = shared_path("checkpoints/small-moe");
  LAPIDARY_SKIP_WITHOUT(folder);
  compare_layers(converted(folder));
  compare_layers(quantized(folder, "w4"));
}

// Examples in one row must not see each other: the same loss as alone, weighted by tokens.
TEST(ModelTwin, ExamplesSideBySideDoNotSeeEachOther) {
  const std::string folder = data_path("nano-e");
  Trainer twin = without_adapter(converted(folder));
  double sum = 0;
  int64_t n = 0;
  for (int i = 0; i < 4; ++i) {
    const TokenRow row = batch_rows(folder, i, 1);
    sum += twin.evaluate({&row, 1}) * static_cast<double>(row.n_learned());
    n += row.n_learned();
  }
  const TokenRow together = batch_rows(folder, 0, 4);
  // Other block sizes, other summation order.
  EXPECT_NEAR(twin.evaluate({&together, 1}), sum / static_cast<double>(n), 1e-5);
}

}  // namespace
}  // namespace lapidary
