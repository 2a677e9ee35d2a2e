// Budgets planned with gradient statistics: the arithmetic, what they decide, and what is refused.
#include "quantize/fisher_costs.h"

#include <gtest/gtest.h>

#include <string>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/file.h"
#include "formats/lap.h"
#include "quantize/budget.h"
#include "quantize/gguf_types.h"
#include "tests/formats/error_of.h"
#include "tests/quantize/memory_source.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

// Two rows of 80 inputs: a whole run of 64, and one of 16.
TEST(FisherCost, IsHalfTheEnergyWeightedByRowsAndRuns) {
  MemorySource source;
  source.add_random("w", {2, 80});
  FisherStatistics statistics;
  FisherTensor& t = statistics.tensors.emplace_back(FisherTensor{"w", {1, 3}, {}});
  t.columns.assign(80, 0.0f);
  t.columns[5] = 1;   // of the first run, as a whole 1 / 64 per input
  t.columns[70] = 3;  // of the second, 3 / 16
  std::vector<float> w(160);
  source.read_rows(0, 0, 2, w);
  double expected = 0;
  for (size_t i = 0; i < 160; ++i)
    expected += 0.5 * (i < 80 ? 0.25 : 0.75) * (i % 80 < 64 ? 1.0 / 64 : 3.0 / 16) * w[i] * w[i];
  EXPECT_NEAR(fisher_cost(source, 0, statistics), expected, 1e-9 * expected);
  t.rows = {0, 0};
  t.columns.assign(80, 0.0f);
  EXPECT_EQ(fisher_cost(source, 0, statistics), 0);
  t.rows = {1, 1, 1};
  EXPECT_EQ(error_of([&] { fisher_cost(source, 0, statistics); }).code(), ErrorCode::kBadData);
  t.name = "another";
  EXPECT_EQ(error_of([&] { fisher_cost(source, 0, statistics); }).code(), ErrorCode::kBadData);
}

class FisherBudget : public testing::Test {
 protected:
  FisherBudget() {
    convert(*HfSource::open(data_path("nano-e")), folder_.file("m.lap"), {});
    const auto lap = LapReader::open(folder_.file("m.lap"));
    statistics_ = {"another", lap->content_hash(), 1, {}};
    for (const SourceTensor& t : lap->tensors())
      statistics_.tensors.push_back({t.name, std::vector<float>(static_cast<size_t>(t.rows()), 1),
                                     std::vector<float>(static_cast<size_t>(t.k()), 1)});
    options_.keep = {{"*.layers.[1-9].*", Code::kBF16}};
  }
  Allocation choose() {
    write_fisher(folder_.file("f"), statistics_);
    BudgetOptions budget;
    budget.codes = {Code::kW8, Code::kW4, Code::kW3};
    budget.bits_per_weight = 11.65;
    budget.scratch = folder_.file("scratch");
    budget.fisher = folder_.file("f");
    const std::string model = folder_.file("m.lap");
    return allocate(*LapReader::open(model), model, options_, budget, {});
  }

  TemporaryFolder folder_;
  FisherStatistics statistics_;
  QuantizeOptions options_;
};

TEST_F(FisherBudget, GivesBitsToWhatGradientsSayMatters) {
  const std::string dear = "model.layers.0.mlp.down_proj.weight";
  for (FisherTensor& t : statistics_.tensors)
    if (t.name == dear) t.rows.assign(t.rows.size(), 1e6f);
  std::map<std::string, Code> codes;
  for (const TensorCost& t : choose().tensors) codes[t.name] = t.code;
  EXPECT_EQ(codes.at(dear), Code::kW8);
  for (FisherTensor& t : statistics_.tensors)
    if (t.name == dear) t.rows.assign(t.rows.size(), 0.0f);
  for (const TensorCost& t : choose().tensors) codes[t.name] = t.code;
  EXPECT_EQ(codes.at(dear), Code::kW3);
}

TEST_F(FisherBudget, GivesBitsInGgufFilesToo) {
  const std::string dear = "model.layers.0.mlp.down_proj.weight";
  const auto bits_of_dear = [&](float importance) {
    for (FisherTensor& t : statistics_.tensors)
      if (t.name == dear) t.rows.assign(t.rows.size(), importance);
    write_fisher(folder_.file("f"), statistics_);
    GgufTypeOptions options;
    options.bits_per_weight = 5.5;
    options.fisher = folder_.file("f");
    options.scratch = folder_.file("scratch");
    const std::string model = folder_.file("m.lap");
    const auto types = choose_gguf_types(*LapReader::open(model), model, options, {}).types;
    return 8 * static_cast<double>(block_bytes(types.at(dear), 256)) / 256;
  };
  EXPECT_GT(bits_of_dear(1e6f), 6);
  EXPECT_LT(bits_of_dear(0), 4);
}

TEST_F(FisherBudget, RefusesStatisticsOfOtherWeights) {
  statistics_.source_hash = "0123456789abcdef0123456789abcdef";
  const Error error = error_of([&] { choose(); });
  EXPECT_EQ(error.code(), ErrorCode::kBadData);
  EXPECT_NE(std::string(error.what()).find("another model"), std::string::npos);
}

TEST_F(FisherBudget, RefusesStatisticsThatLackATensor) {
  std::erase_if(statistics_.tensors,
                [](const FisherTensor& t) { return t.name == "model.embed_tokens.weight"; });
  EXPECT_NE(std::string(error_of([&] { choose(); }).what()).find("model.embed_tokens.weight"),
            std::string::npos);
}

}  // namespace
}  // namespace lapidary
