// The training curves that the `peft` package recorded, reproduced step by step: the same adapter,
// the same batches, the same optimizer. If the forward pass, any gradient, the loss or AdamW were
// wrong, the second step at the latest would show it.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "finetune/trainer.h"
#include "formats/file.h"
#include "formats/peft.h"
#include "tests/finetune/fixtures.h"

namespace lapidary {
namespace {

struct Differences {
  double loss = 0, gradient_norm = 0;  // largest relative difference of any step
};

// Steps of a fourth of the rows, in their order, again and again: as the curves were recorded.
Differences follow_curve(Trainer& trainer, const std::string& folder, const nlohmann::json& curve) {
  Differences worst;
  const auto losses = curve.at("loss").get<std::vector<double>>();
  const auto norms = curve.at("grad_norm").get<std::vector<double>>();
  const int64_t batch = n_batch_rows(folder) / 4;
  for (size_t i = 0; i < losses.size(); ++i) {
    const TokenRow row = batch_rows(folder, static_cast<int64_t>(i % 4) * batch, batch);
    const StepResult step = trainer.step({&row, 1}, 1e-3);
    worst.loss = std::max(worst.loss, std::abs(step.loss / losses[i] - 1));
    worst.gradient_norm =
        std::max(worst.gradient_norm, std::abs(step.gradient_norm / norms[i] - 1));
  }
  return worst;
}

void check_final(const Trainer& trainer, const std::string& folder);

void check_variant(const std::string& folder, const std::string& variant) {
  const auto json = nlohmann::json::parse(read_text(folder + "/reference/lora_curve.json"));
  PeftAdapter initial = read_peft(folder + "/reference/lora_init");
  initial.config.dora = variant == "dora";
  initial.config.rslora = variant == "rslora";
  if (variant == "dora") {  // PEFT has none on experts
    initial.config.target_parameters.clear();
    std::erase_if(initial.modules, [](const LoraModule& m) { return m.n_experts > 0; });
  }
  if (variant == "rslora")
    for (LoraModule& m : initial.modules)
      m.scale *= static_cast<float>(std::sqrt(static_cast<double>(m.rank)));
  Trainer trainer(load_converted(folder), initial, {});
  const Differences worst = follow_curve(trainer, folder, json.at(variant));
  // Both sides compute in float32 in different orders; a training run amplifies that slowly.
  EXPECT_LT(worst.loss, 1e-3) << variant;
  EXPECT_LT(worst.gradient_norm, 1e-2) << variant;
  std::printf("  %s: loss differs by at most %.2e, gradient norm by %.2e (relative)\n",
              variant.c_str(), worst.loss, worst.gradient_norm);
  if (variant == "lora") check_final(trainer, folder);
}

// The adapter after the recorded run, tensor by tensor, and what it makes the model say.
void check_final(const Trainer& trainer, const std::string& folder) {
  const PeftAdapter expected = read_peft(folder + "/reference/lora_final"), got = trainer.adapter();
  ASSERT_EQ(got.modules.size(), expected.modules.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < got.modules.size(); ++i) {
    const LoraModule &a = got.modules[i], &b = expected.modules[i];
    ASSERT_EQ(a.module, b.module);
    ASSERT_EQ(a.a.size(), b.a.size());
    ASSERT_EQ(a.b.size(), b.b.size());
    for (size_t j = 0; j < a.a.size(); ++j) difference += std::pow(a.a[j] - b.a[j], 2);
    for (size_t j = 0; j < a.b.size(); ++j) difference += std::pow(a.b[j] - b.b[j], 2);
    for (const float x : b.b) size += double{x} * x;
  }
  // Relative to the trained B (A hardly moves). AdamW divides by the gradient's own size, so
  // elements with a gradient near zero may step either way: single elements differ, the whole must
  // not.
  EXPECT_LT(std::sqrt(difference / size), 2e-2);
  std::printf("  final adapter differs by %.2e of |B|\n", std::sqrt(difference / size));

  const auto set = SafetensorsSet::open_file(folder + "/reference/lora_final_logits.safetensors");
  const FloatTensor logits = read_tensor(set, "logits");
  Trainer reader(load_converted(folder), expected, {});
  const std::vector<float> ours = reader.logits(batch_rows(folder, 0, 1).ids);
  ASSERT_EQ(ours.size(), logits.values.size());
  double worst = 0;
  for (size_t i = 0; i < ours.size(); ++i)
    worst = std::max(worst, std::abs(double{ours[i]} - logits.values[i]));
  EXPECT_LT(worst, 1e-3);  // the parity bound of the whole project for float32
  std::printf("  logits of lora_final differ by at most %.2e\n", worst);
}

TEST(PeftCurves, LoraOfNanoE) { check_variant(data_path("nano-e"), "lora"); }
TEST(PeftCurves, RsLoraOfNanoE) { check_variant(data_path("nano-e"), "rslora"); }
TEST(PeftCurves, DoraOfNanoE) { check_variant(data_path("nano-e"), "dora"); }

TEST(PeftCurves, BFloat16OperandsStayNearTheCurve) {
  const std::string folder = data_path("nano-e");
  const auto json = nlohmann::json::parse(read_text(folder + "/reference/lora_curve.json"));
  TrainerOptions options;
  options.precision = native_precision();
  Trainer trainer(load_converted(folder), read_peft(folder + "/reference/lora_init"), options);
  const Differences worst = follow_curve(trainer, folder, json.at("lora"));
  // An operand is off by up to 2^-9, at random; sums of hundreds of products and ten layers leave
  // about that of a loss, and 24 steps of AdamW, whose steps do not shrink with the gradient, a few
  // times as much.
  EXPECT_LT(worst.loss, 2e-2);
  EXPECT_LT(worst.gradient_norm, 1e-1);
  std::printf("  bfloat16: loss differs by at most %.2e, gradient norm by %.2e (relative)\n",
              worst.loss, worst.gradient_norm);
}

// Adapters on stacks of experts: rank 2 and a scale of their own beside rank 4.
TEST(PeftCurves, LoraOfTinyMoe) { check_variant(data_path("tiny-moe"), "lora"); }
TEST(PeftCurves, RsLoraOfTinyMoe) { check_variant(data_path("tiny-moe"), "rslora"); }
TEST(PeftCurves, DoraOfTinyMoe) { check_variant(data_path("tiny-moe"), "dora"); }

// Moments are off by at most 1/15 of themselves, so a step is by a few percent, at random: the
// curve stays near, and a state that was stored and restored goes on the same.
TEST(PeftCurves, EightBitMomentsStayNearTheCurve) {
  const std::string folder = data_path("nano-e");
  const auto json = nlohmann::json::parse(read_text(folder + "/reference/lora_curve.json"));
  const PeftAdapter initial = read_peft(folder + "/reference/lora_init");
  TrainerOptions options;
  options.adam_8bit = true;
  Trainer trainer(load_converted(folder), initial, options);
  const Differences worst = follow_curve(trainer, folder, json.at("lora"));
  EXPECT_LT(worst.loss, 5e-2);
  std::printf("  8-bit moments: loss differs by at most %.2e (relative)\n", worst.loss);
  Trainer restored(load_converted(folder), initial, options);
  restored.restore(trainer.state());
  const TokenRow row = batch_rows(folder, 0, 8);
  EXPECT_EQ(trainer.step({&row, 1}, 1e-3).loss, restored.step({&row, 1}, 1e-3).loss);
  EXPECT_EQ(trainer.adapter().modules[3].b, restored.adapter().modules[3].b);
}

// Rows one by one weigh as their tokens do: the gradient is that of all of them at once.
TEST(PeftCurves, AccumulationIsTheBigBatch) {
  const std::string folder = data_path("nano-e");
  const PeftAdapter initial = read_peft(folder + "/reference/lora_init");
  Trainer together(load_converted(folder), initial, {}), apart(load_converted(folder), initial, {});
  std::vector<TokenRow> rows;
  for (int64_t i = 0; i < 8; ++i) rows.push_back(batch_rows(folder, i, 1));
  for (int i = 0; i < 3; ++i) {
    const TokenRow row = batch_rows(folder, 0, 8);
    const StepResult a = together.step({&row, 1}, 1e-3), b = apart.step(rows, 1e-3);
    // Float32 sums in another order.
    EXPECT_NEAR(a.loss / b.loss, 1, 1e-5);
    EXPECT_NEAR(a.gradient_norm / b.gradient_norm, 1, 1e-4);
  }
}

class SharedCurves : public testing::TestWithParam<std::tuple<const char*, const char*>> {};
TEST_P(SharedCurves, OfTrainedModels) {
  const auto [model, variant] = GetParam();
  const std::string folder = shared_path(std::string("checkpoints/") + model);
  LAPIDARY_SKIP_WITHOUT(folder);
  check_variant(folder, variant);
}
INSTANTIATE_TEST_SUITE_P(PeftCurves, SharedCurves,
                         testing::Combine(testing::Values("small-dense", "small-moe"),
                                          testing::Values("lora", "rslora", "dora")));

// With every output kept, with some of them, with none.
class Recomputed : public testing::TestWithParam<int64_t> {};
TEST_P(Recomputed, LayersChangeNoBit) {
  const std::string folder = data_path("nano-e");
  const PeftAdapter initial = read_peft(folder + "/reference/lora_init");
  TrainerOptions options;
  Trainer plain(load_converted(folder), initial, options);
  options.checkpoint_activations = true;
  options.kept_bytes = GetParam();
  Trainer recomputed(load_converted(folder), initial, options);
  for (int i = 0; i < 3; ++i) {
    const TokenRow row = batch_rows(folder, i * 8, 8);
    const StepResult a = plain.step({&row, 1}, 1e-3), b = recomputed.step({&row, 1}, 1e-3);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.gradient_norm, b.gradient_norm);
  }
  const PeftAdapter a = plain.adapter(), b = recomputed.adapter();
  for (size_t i = 0; i < a.modules.size(); ++i) {
    EXPECT_EQ(a.modules[i].a, b.modules[i].a) << a.modules[i].module;
    EXPECT_EQ(a.modules[i].b, b.modules[i].b) << a.modules[i].module;
  }
}
INSTANTIATE_TEST_SUITE_P(PeftCurves, Recomputed, testing::Values(kKeptBytes, 3000000, 0));

}  // namespace
}  // namespace lapidary
