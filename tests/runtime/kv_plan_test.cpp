// Sizes of caches: the published shapes to the byte, and the shares that packing leaves of 16 bits.
#include "runtime/kv_plan.h"

#include <gtest/gtest.h>

#include "formats/error.h"

namespace lapidary {
namespace {

struct Shape {
  int n_layers, period, n_shared, window, sliding_heads, global_heads;
  bool k_eq_v;
};
constexpr Shape kE2b{35, 5, 20, 512, 1, 1, false};
constexpr Shape kE4b{42, 6, 18, 512, 2, 2, false};
constexpr Shape k12b{48, 6, 0, 1024, 8, 1, true};
constexpr Shape k26b{30, 6, 0, 1024, 8, 2, true};
constexpr Shape k31b{60, 6, 0, 1024, 16, 4, true};

// Gemma 4's caches: every period-th layer is global, the last n_shared read earlier layers.
ModelConfig config_of(const Shape& shape) {
  ModelConfig config;
  config.qk_norm = config.v_norm = true;
  for (int l = 0; l < shape.n_layers; ++l) {
    LayerConfig layer;
    const bool global = (l + 1) % shape.period == 0;
    layer.attention = global ? AttentionKind::kGlobal : AttentionKind::kSliding;
    layer.window = global ? 0 : shape.window;
    layer.head_dim = global ? 512 : 256;
    layer.n_kv_heads = global ? shape.global_heads : shape.sliding_heads;
    layer.n_heads = 8 * layer.n_kv_heads;
    layer.k_eq_v = global && shape.k_eq_v;
    if (global) layer.rope.kind = RopeKind::kProportional;
    if (global) layer.rope.rotated_fraction = 0.25;
    const int own = shape.n_layers - shape.n_shared;
    layer.kv_source = l < own ? l : global ? own / shape.period * shape.period - 1 : own - 2;
    config.layers.push_back(layer);
  }
  return config;
}

struct Bytes {
  uint64_t global = 0, sliding = 0;
  double per_token = 0;
};
Bytes held(const Shape& shape, const KvText& kv, int64_t context) {
  Bytes bytes;
  for (const KvLayerPlan& l : plan_kv(config_of(shape), *parse_kv(kv), context, 256).layers) {
    (l.sliding ? bytes.sliding : bytes.global) += l.held_bytes(context);
    bytes.per_token += l.bytes_per_token();
  }
  return bytes;
}
Bytes held(const Shape& shape, const std::string& kv, int64_t context) {
  return held(shape, KvText{kv, "", "", "", false}, context);
}

constexpr uint64_t kMi = 1 << 20;
constexpr uint64_t kGi = 1 << 30;

TEST(KvPlan, KnowsThePublishedShapesIn16Bits) {
  EXPECT_EQ(held(kE2b, "off", 8192).per_token, 6144);
  EXPECT_EQ(held(kE4b, "off", 8192).per_token, 16384);
  EXPECT_EQ(held(k12b, "off", 8192).per_token, 16384);
  EXPECT_EQ(held(k26b, "off", 8192).per_token, 20480);
  EXPECT_EQ(held(k31b, "off", 8192).per_token, 81920);
  EXPECT_EQ(held(k31b, "off", 262144).global, 20 * kGi);
  EXPECT_EQ(held(kE2b, "off", 8192).sliding, 6 * kMi);
  EXPECT_EQ(held(kE4b, "off", 8192).sliding, 20 * kMi);
  EXPECT_EQ(held(k12b, "off", 8192).sliding, 320 * kMi);
  EXPECT_EQ(held(k26b, "off", 8192).sliding, 200 * kMi);
  EXPECT_EQ(held(k31b, "off", 8192).sliding, 800 * kMi);
  EXPECT_EQ(held(k31b, "f32", 8192).sliding, 1600 * kMi);
}

TEST(KvPlan, BringsTheGlobalLayersOf31BTo5GiBAndLess) {
  // 520 bytes per token and head: 512 int8 and four fp16 scales.
  EXPECT_EQ(held(k31b, "k8v8", 262144).per_token, 40 * 520);
  EXPECT_LE(held(k31b, "k8v8", 262144).global, 5.1 * kGi);
  EXPECT_LE(held(k31b, "k4v4", 262144).global, 3.8 * kGi);
  EXPECT_LE(held(k31b, {"k4v4", "", "", "v4", false}, 262144).global, 3.4 * kGi);
}

TEST(KvPlan, LeavesTheSharesOf16BitsThatTheCodesPromise) {
  // One layer with two sides of one head, of 64 exact tokens, a tail of 256 and its page.
  for (const int head_dim : {128, 256, 512}) {
    ModelConfig config;
    config.qk_norm = config.v_norm = true;
    config.layers.resize(1);
    config.layers[0].n_heads = config.layers[0].n_kv_heads = 1;
    config.layers[0].head_dim = head_dim;
    const auto share = [&](const char* kv) {
      const KvPlan plan = plan_kv(config, *parse_kv({kv, "", "", "", false}), 8192, 256);
      return double(plan.layers[0].held_bytes(8192)) / double(plan.layers[0].plain_bytes(8192));
    };
    EXPECT_LE(share("k8v8"), 0.535) << head_dim;
    EXPECT_LE(share("k4v4"), 0.30) << head_dim;
    EXPECT_LE(share("k3v3"), 0.24) << head_dim;
    config.layers[0].k_eq_v = true;
    config.layers[0].rope.kind = RopeKind::kProportional;
    config.layers[0].rope.rotated_fraction = 0.25;
    EXPECT_LE(share("k8v8"), 0.27) << head_dim;
    EXPECT_EQ(share("off"), 1.0);
  }
}

TEST(KvPlan, PacksSlidingLayersOnlyBeyondTheTail) {
  const auto sliding = [](const std::string& exact) {
    return held(k31b, {"k8v8", exact, "k8v8", "", false}, 8192).sliding;
  };
  EXPECT_LT(sliding("64,256"), 600 * kMi);
  EXPECT_EQ(sliding("64,1024"), 800 * kMi);  // the whole window is tail
  // No sink: the first tokens have left the window.
  EXPECT_EQ(sliding("0,256"), sliding("64,256"));
}

TEST(KvPlan, HoldsNoMoreThanItReserves) {
  for (const char* kv : {"f32", "off", "k8v8", "k4v4", "k3v3"})
    for (const char* exact : {"64,256", "0,0", "128,64"})
      for (const int64_t context : {1, 63, 64, 65, 320, 384, 400, 1000, 5000}) {
        const bool packs = kv[0] == 'k';
        const KvPlan plan = plan_kv(
            config_of(k26b), *parse_kv({kv, packs ? exact : "", packs ? "k8v8" : "", "", false}),
            context, 40);
        for (const KvLayerPlan& layer : plan.layers)
          for (int64_t n = 0; n <= context; n += 1 + n / 7)
            ASSERT_LE(layer.held_bytes(n), layer.reserved_bytes())
                << kv << " " << exact << " layer " << layer.layer << " after " << n;
      }
}

TEST(KvPlan, RefusesCapacitiesThatCannotBe) {
  const ModelConfig config = config_of(kE2b);
  EXPECT_THROW(plan_kv(config, {}, 0, 4), Error);
  EXPECT_THROW(plan_kv(config, {}, int64_t{1} << 40, 4), Error);
  EXPECT_THROW(plan_kv(config, {}, 100, 0), Error);
}

}  // namespace
}  // namespace lapidary
