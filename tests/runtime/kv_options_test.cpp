// What --kv and its relatives mean, what is refused, and which tokens a query reads packed.
#include "runtime/kv_options.h"

#include <gtest/gtest.h>

#include "formats/error.h"
#include "runtime/kv_choice.h"

namespace lapidary {
namespace {

KvOptions parsed(const std::string& kv, const std::string& exact = "",
                 const std::string& sliding = "", const std::string& global = "") {
  return parse_kv({kv, exact, sliding, global, false}).value();
}

// Throws kUsage and the message mentions `what`.
void expect_refused(const KvText& text, const std::string& what) {
  try {
    parse_kv(text);
    FAIL() << "accepted: " << text.kv;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(e.what()).find(what), std::string::npos) << e.what();
  }
}

// Two sliding layers around a global one; only the global layer's K may be made from V.
ModelConfig three_layers(bool k_eq_v) {
  ModelConfig config;
  LayerConfig sliding, global;
  sliding.attention = AttentionKind::kSliding;
  sliding.window = 512;
  sliding.head_dim = global.head_dim = 128;
  sliding.n_heads = global.n_heads = 4;
  sliding.n_kv_heads = global.n_kv_heads = 2;
  global.kv_source = 1;
  global.k_eq_v = k_eq_v;
  sliding.k_eq_v = false;
  global.rope.kind = RopeKind::kProportional;
  global.rope.rotated_fraction = 0.25;
  config.qk_norm = config.v_norm = true;
  config.layers = {sliding, global, sliding};
  config.layers[2].kv_source = 2;
  return config;
}

TEST(KvOptions, ReadPackedWhatPositionsSayAndNothingElse) {
  const ExactEnds usual{64, 256};
  EXPECT_EQ(packed_end(usual, 0), 64);
  EXPECT_EQ(packed_end(usual, 383), 64);
  EXPECT_EQ(packed_end(usual, 384), 128);
  EXPECT_EQ(packed_end(usual, 447), 128);
  EXPECT_EQ(packed_end(usual, 448), 192);
  EXPECT_EQ(packed_end(usual, 8191), 7872);
  const ExactEnds none{0, 0};
  EXPECT_EQ(packed_end(none, 63), 0);
  EXPECT_EQ(packed_end(none, 64), 64);
  EXPECT_EQ(packed_end(none, 130), 128);
  for (const ExactEnds& ends : {usual, none, ExactEnds{128, 0}, ExactEnds{0, 64}})
    for (int64_t t = 0; t < 2000; ++t) {
      const int64_t end = packed_end(ends, t);
      ASSERT_EQ(end % kPageTokens, 0);
      ASSERT_TRUE(end == ends.sink || t - end >= ends.tail);  // the tail of t is exact
      ASSERT_LT(t - end, std::max<int64_t>(ends.sink, t - ends.sink + 1) + ends.tail + kPageTokens);
      ASSERT_GE(packed_end(ends, t + 1), end);  // what is packed stays packed
    }
}

TEST(KvOptions, ParseCodes) {
  EXPECT_FALSE(parse_kv({}).has_value());
  EXPECT_EQ(parsed("f32"), KvOptions(KvCode::kF32));
  EXPECT_EQ(parsed("off"), KvOptions(KvCode::kBF16));
  EXPECT_EQ(parsed("off"), KvOptions());
  const KvOptions k8v4 = parsed("k8v4");
  EXPECT_EQ(k8v4.global, (KvLayerCode{KvCode::kInt8, KvCode::k4Bit, false}));
  EXPECT_EQ(k8v4.sliding, KvLayerCode());
  EXPECT_EQ(k8v4.ends, (ExactEnds{64, 256}));
  EXPECT_EQ(parsed("k3v3", "0,0").ends, (ExactEnds{0, 0}));
  EXPECT_EQ(parsed("k8v8", "128,512", "k8v8").sliding,
            (KvLayerCode{KvCode::kInt8, KvCode::kInt8, false}));
  EXPECT_EQ(parse_kv({"k3v8", "", "", "", true})->global.values, KvCode::kInt8);
}

TEST(KvOptions, StoreVAloneWhereKIsMadeFromIt) {
  const ModelConfig config = three_layers(true);
  const auto global = [&](const KvOptions& o) { return kv_name(layer_code(config, o, 1)); };
  EXPECT_EQ(global(parsed("k8v8")), "v8");
  EXPECT_EQ(global(parsed("k4v4")), "v5");
  EXPECT_EQ(global(parsed("k3v3")), "v5");
  EXPECT_EQ(global(parsed("k3v3", "", "", "v4")), "v4");
  EXPECT_EQ(global(parsed("k4v4", "", "", "separate")), "k4v4");
  EXPECT_EQ(global(parsed("off")), "off");
  EXPECT_EQ(kv_name(layer_code(config, parsed("k4v4"), 0)), "off");
  EXPECT_EQ(kv_name(layer_code(three_layers(false), parsed("k4v4"), 1)), "k4v4");
}

TEST(KvOptions, RefuseWhatMeansNothing) {
  expect_refused({"k9v9", "", "", "", false}, "not known");
  expect_refused({"k5v5", "", "", "", false}, "not known");
  expect_refused({"K4V4", "", "", "", false}, "not known");
  expect_refused({"k4v4 ", "", "", "", false}, "not known");
  expect_refused({"k3v8", "", "", "", false}, "--force");
  expect_refused({"k4v4", "64", "", "", false}, "SINK,TAIL");
  expect_refused({"k4v4", "64,100", "", "", false}, "multiples of 64");
  expect_refused({"k4v4", "-64,256", "", "", false}, "SINK,TAIL");
  expect_refused({"k4v4", "64,256,", "", "", false}, "SINK,TAIL");
  expect_refused({"k4v4", "64,99999999999", "", "", false}, "SINK,TAIL");
  expect_refused({"k4v4", "", "k4v4", "", false}, "--kv-sliding");
  expect_refused({"k4v4", "", "", "v3", false}, "--kv-global");
  expect_refused({"off", "", "", "v8", false}, "packs nothing");
  expect_refused({"off", "0,0", "", "", false}, "packs nothing");
  expect_refused({"f32", "", "k8v8", "", false}, "packs nothing");
  expect_refused({"", "0,0", "", "", false}, "--kv CODE");
}

TEST(KvOptions, RefuseModelsTheyDoNotFit) {
  const ModelConfig separate = three_layers(false), together = three_layers(true);
  EXPECT_NO_THROW(check_kv(together, parsed("k8v8", "", "", "v8")));
  ModelConfig all_turn = together;  // no dims but those that RoPE turns
  all_turn.layers[1].rope.rotated_fraction = 1.0;
  EXPECT_THROW(check_kv(all_turn, parsed("k8v8", "", "", "v8")), Error);
  EXPECT_NO_THROW(check_kv(separate, parsed("k8v8")));  // V-only by preset: simply not used
  EXPECT_THROW(check_kv(separate, parsed("k8v8", "", "", "v8")), Error);
  KvOptions listed;
  listed.layers.resize(2);
  EXPECT_THROW(check_kv(separate, listed), Error);  // three layers
  listed.layers.resize(3);
  EXPECT_NO_THROW(check_kv(separate, listed));
  listed.layers[1] = kv_layer_code("v8");
  EXPECT_THROW(check_kv(separate, listed), Error);
  EXPECT_NO_THROW(check_kv(together, listed));
  listed.layers[0] = kv_layer_code("k4v4");  // a sliding layer
  EXPECT_THROW(check_kv(together, listed), Error);
  listed.layers[0] = kv_layer_code("f32");  // beside 16 bits
  EXPECT_THROW(check_kv(together, listed), Error);
}

TEST(KvOptions, ComeBackFromTheMetadataTheyWereWrittenTo) {
  ModelMetadata metadata;
  metadata.config = three_layers(true);
  EXPECT_EQ(kv_for(std::nullopt, metadata), KvOptions());
  EXPECT_EQ(kv_for(KvOptions(KvCode::kF32), metadata), KvOptions(KvCode::kF32));
  const KvOptions chosen = parsed("k8v4", "0,128", "k8v8", "v4");
  metadata.kv = kv_to_json(metadata.config, chosen);
  const KvOptions back = kv_for(std::nullopt, metadata);
  EXPECT_EQ(back.ends, chosen.ends);
  for (int l = 0; l < 3; ++l)
    EXPECT_EQ(layer_code(metadata.config, back, l), layer_code(metadata.config, chosen, l)) << l;
  EXPECT_EQ(kv_for(KvOptions(), metadata), KvOptions());  // what was asked for comes first
}

TEST(KvOptions, RefuseAChoiceThatDoesNotFitItsFile) {
  ModelMetadata metadata;
  metadata.config = three_layers(false);
  for (const char* kv : {R"({"exact": [64, 256], "layers": ["off", "v8", "off"]})",
                         R"({"exact": [64, 256], "layers": ["off"]})", R"({"exact": [64]})",
                         R"({"exact": [1, 2], "layers": ["off", "off", "off"]})",
                         R"({"exact": [64, 256], "layers": ["off", 3, "off"]})", "[", "3"}) {
    metadata.kv = kv;
    try {
      kv_for(std::nullopt, metadata);
      FAIL() << "accepted " << kv;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadData) << kv;
    }
  }
}

}  // namespace
}  // namespace lapidary
