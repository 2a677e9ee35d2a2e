// What a recomputed layer keeps: chosen by worth within a bound, and the same for both runs.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "finetune/kept_output.h"
#include "tests/finetune/random_tensors.h"

namespace lapidary {
namespace {

// An E-model in small: the second half of the layers reads other layers' keys and values.
ModelConfig small_config() {
  ModelConfig c;
  c.d_model = 64;
  c.ple_width = 16;
  for (int i = 0; i < 4; ++i) {
    LayerConfig l;
    l.n_heads = 4;
    l.n_kv_heads = 1;
    l.head_dim = 32;
    l.d_ff = i < 2 ? 256 : 512;
    l.kv_source = i < 2 ? i : 1;
    c.layers.push_back(l);
  }
  return c;
}

bool keeps(const KeptPlan& plan, int layer, LayerPart part) {
  return KeptLayer(plan.parts[static_cast<size_t>(layer)]).find(part) != nullptr;
}

TEST(KeptPlan, TakesWhatSavesMostPerByteWithinTheBound) {
  const ModelConfig c = small_config();
  const int64_t n = 100, narrow = 40;
  const int64_t down = narrow * 64 * 2, wide_down = n * 64 * 2;
  // The wide layers' 40 tokens first, then the layers of 256; the second has its output for
  // narrowed tokens alone.
  const KeptPlan two = plan_kept(c, n, narrow, 2, 2 * down);
  EXPECT_EQ(two.bytes, 2 * down);
  EXPECT_TRUE(keeps(two, 2, LayerPart::kDown) && keeps(two, 3, LayerPart::kDown));
  EXPECT_FALSE(keeps(two, 0, LayerPart::kDown));
  const KeptPlan more = plan_kept(c, n, narrow, 2, 3 * down + wide_down);
  EXPECT_TRUE(keeps(more, 0, LayerPart::kDown) && keeps(more, 1, LayerPart::kDown));
  EXPECT_FALSE(keeps(more, 0, LayerPart::kO));  // no byte is left

  EXPECT_EQ(plan_kept(c, n, narrow, 2, 0).bytes, 0);
  const KeptPlan all = plan_kept(c, n, narrow, 2, int64_t{1} << 40);
  // Per token: q and what attention gives, k and v where owned, o and down, gate and up, both
  // per-layer products.
  const int64_t per_query = 2 * 128 + 3 * 64 + 16;
  EXPECT_EQ(all.bytes, 2 * (n * (per_query + 2 * 256 + 64) + n * 64 + narrow * (per_query + 512) +
                            2 * narrow * (per_query + 1024)));
  EXPECT_FALSE(keeps(all, 3, LayerPart::kK));
}

TEST(KeptOutput, GivesBothRunsTheSame) {
  for (const Precision p : {Precision::kFloat32, Precision::kBFloat16}) {
    FrozenWeights weights(2, p);
    const at::Tensor made = random_tensor({70, 33}, 5);
    KeptOutput kept;
    const at::Tensor first = make_or_take(weights, &kept, [&] { return made.clone(); });
    const at::Tensor second =
        make_or_take(weights, &kept, [&]() -> at::Tensor { throw std::logic_error("made again"); });
    EXPECT_TRUE(first.equal(second));
    EXPECT_FALSE(kept.has_value());
    EXPECT_TRUE(
        first.equal(p == Precision::kFloat32 ? made : made.to(at::kBFloat16).to(at::kFloat)));
  }
}

}  // namespace
}  // namespace lapidary
