// Synthetic models: the published shapes, cut where asked, and a tokenizer that encodes anything.
#include "convert/synthetic.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "convert/hf_source.h"
#include "formats/error.h"
#include "formats/tokenizer_tables.h"

namespace lapidary {
namespace {

constexpr int kSmallVocab = 1024;

SyntheticModel small(const std::string& shape, int n_layers = 0) {
  return {shape, n_layers, kSmallVocab};
}

int64_t count_parameters(const ModelSource& source) {
  int64_t n = 0;
  for (const SourceTensor& t : source.tensors()) n += t.elements();
  return n;
}

TEST(Synthetic, ShapesHaveTheParametersOfTheReleasedModels) {
  // What the published configs come to; they have 262144 rows of vocabulary.
  const std::pair<const char*, int64_t> released[] = {
      {"e2b", 4628569379}, {"e4b", 7463013418}, {"26b-a4b", 25233141790}, {"31b", 30697345340}};
  for (const auto& [shape, n_parameters] : released) {
    const auto source = synthetic_source(small(shape));
    const ModelConfig& c = source->metadata().config;
    const int64_t per_row = c.d_model + int64_t{c.n_layers()} * c.ple_width;
    EXPECT_EQ(count_parameters(*source), n_parameters - (262144 - kSmallVocab) * per_row) << shape;
  }
}

TEST(Synthetic, CutModelsEndWithAGlobalLayerAndKeepOwnersOfKv) {
  const auto layers = [](const char* shape, int n) {
    return model_config_from_hf(synthetic_config(small(shape, n)));
  };
  EXPECT_EQ(layers("e2b", 1).n_layers(), 5);
  EXPECT_EQ(layers("e2b", 13).n_layers(), 15);
  EXPECT_EQ(layers("26b-a4b", 6).n_layers(), 6);
  EXPECT_EQ(layers("e4b", 42).n_layers(), 42);
  for (const std::string& shape : synthetic_shapes())
    for (const int n : {1, 7, 12, 24, 30}) {
      const ModelConfig c = layers(shape.c_str(), n);
      EXPECT_EQ(c.layers.back().attention, AttentionKind::kGlobal) << shape << " " << n;
      EXPECT_TRUE(c.eos_ids.empty());
    }
  EXPECT_TRUE(layers("e2b", 5).owns_kv(4));
  EXPECT_FALSE(layers("e2b", 15).owns_kv(14));
}

TEST(Synthetic, RefusesWhatItCannotMake) {
  for (const SyntheticModel& model :
       {SyntheticModel{"e3b", 0, kSmallVocab}, SyntheticModel{"e2b", 36, kSmallVocab},
        SyntheticModel{"e2b", -1, kSmallVocab}, SyntheticModel{"e2b", 0, 100},
        SyntheticModel{"e2b", 0, 262145}}) {
    try {
      synthetic_source(model);
      FAIL() << model.shape << " " << model.n_layers << " " << model.vocab_size;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kUsage);
    }
  }
}

TEST(Synthetic, RowsRepeatAndHaveTheGivenDeviation) {
  const auto source = synthetic_source(small("e2b", 5));
  for (size_t i = 0; i < source->tensors().size(); ++i) {
    const SourceTensor& t = source->tensors()[i];
    std::vector<float> row(static_cast<size_t>(t.k())), pair(2 * row.size());
    source->read_rows(i, t.rows() - 1, 1, row);
    double square = 0;
    for (const float v : row) square += double{v} * v / static_cast<double>(row.size());
    // Uniform values: the mean square of n of them scatters by 0.9 / sqrt(n) of itself; n >= 256.
    const double expected = t.shape.size() == 1 ? 1.0 : kSyntheticDeviation;
    EXPECT_NEAR(std::sqrt(square) / expected, 1.0, 0.15) << t.name;
    if (t.rows() < 2) continue;
    source->read_rows(i, t.rows() - 2, 2, pair);
    EXPECT_TRUE(std::equal(row.begin(), row.end(), pair.begin() + t.k())) << t.name;
  }
}

TEST(Synthetic, TokenizerFillsItsVocabulary) {
  for (const int size : {320, 5000}) {
    const auto json = nlohmann::json::parse(synthetic_tokenizer(size));
    EXPECT_EQ(json["model"]["vocab"].size(), static_cast<size_t>(size));
    EXPECT_FALSE(compile_tokenizer(synthetic_tokenizer(size), size).empty());
  }
}

}  // namespace
}  // namespace lapidary
