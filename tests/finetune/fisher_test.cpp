// The Fisher diagonal against what it predicts: how far the model's distribution moves when weights
// do.
#include "finetune/fisher.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "finetune/trainer.h"
#include "formats/file.h"
#include "formats/lap.h"
#include "quantize/tensor_costs.h"
#include "tests/finetune/fixtures.h"

namespace lapidary {
namespace {

constexpr int64_t kWindow = 64, kTokens = 1008;  // 16 windows of 63 tokens and BOS

class FisherDiagonal : public testing::Test {
 protected:
  FisherDiagonal() {
    options_.tokens = model_->tokenizer().encode(read_text(data_path("own.txt")), {});
    options_.tokens.resize(kTokens);
    options_.n_tokens = kTokens;
    options_.window = kWindow;
    options_.n_threads = 2;
  }
  // The same windows, to be kept.
  std::vector<TokenRow> rows() const {
    std::vector<TokenRow> rows;
    for (size_t first = 0; first < options_.tokens.size(); first += kWindow - 1) {
      TokenRow& row = rows.emplace_back();
      row.ids = {model_->config().bos_id};
      row.ids.insert(row.ids.end(), options_.tokens.begin() + static_cast<int64_t>(first),
                     options_.tokens.begin() + static_cast<int64_t>(first) + kWindow - 1);
      row.labels.assign(row.ids.size(), kNotLearned);
      row.lengths = {kWindow};
      row.keeps = {Keep::kAll};
    }
    return rows;
  }
  // Mean KL(base || base with weights moved), and half of F weighted by the squares of the moves:
  // of one matrix, in rows [first, first + count), by a random product B A.
  std::pair<double, double> kl_and_prediction(const FisherTensor& fisher, const std::string& module,
                                              int64_t first, int64_t count, unsigned seed) {
    PeftConfig config;
    config.rank = 16;
    config.alpha = 16;
    config.target_modules = {module.substr(std::string("model.").size())};
    PeftAdapter adapter = Trainer::initial_adapter(*model_, config, 1);
    LoraModule& m = adapter.modules.at(0);
    std::mt19937 random(seed);
    std::normal_distribution<float> bell;
    for (float& a : m.a) a = bell(random);
    double norm = 0;  // of this layer's part of F: the move is made small whatever the layer
    for (int64_t i = first; i < first + count; ++i) norm += fisher.rows[static_cast<size_t>(i)];
    const double size = std::sqrt(2e-3 / norm / config.rank);
    for (int64_t i = first * m.rank; i < (first + count) * m.rank; ++i)
      m.b[static_cast<size_t>(i)] = static_cast<float>(size) * bell(random);
    TrainerOptions threads;
    threads.n_threads = 2;
    Trainer moved(model_, adapter, threads);
    double kl = 0, n = 0, predicted = 0;
    for (const RowMeasure& r : moved.measure(rows())) {
      kl += r.kl;
      n += static_cast<double>(r.n_kept);
    }
    const double total = std::accumulate(fisher.rows.begin(), fisher.rows.end(), 0.0);
    for (int64_t i = first; i < first + count; ++i)
      for (int64_t j = 0; j < m.in; ++j) {
        double d = 0;
        for (int64_t r = 0; r < m.rank; ++r)
          d += static_cast<double>(m.b[static_cast<size_t>(i * m.rank + r)]) *
               m.a[static_cast<size_t>(r * m.in + j)];
        predicted += 0.5 * d * d * fisher.rows[static_cast<size_t>(i)] *
                     fisher.columns[static_cast<size_t>(j)] / total;
      }
    return {kl / n, predicted};
  }

  std::shared_ptr<const Model> model_ = load_converted(data_path("nano-e"));
  FisherOptions options_;
};

// Finite differences: in the mean over random moves, KL is half of F times their squares. The mean
// of eight moves of rank 16 is within some 15 % of the trace, and so are 32 windows' drawn labels;
// terms of third order are a few percent at a KL of 1e-3.
TEST_F(FisherDiagonal, PredictsTheDivergenceOfRandomMoves) {
  const FisherStatistics statistics = measure_fisher(model_, options_, {});
  EXPECT_EQ(statistics.tokens, kTokens);
  for (const char* module : {"model.layers.0.self_attn.q_proj", "model.layers.4.self_attn.v_proj",
                             "model.layers.6.mlp.down_proj", "model.layers.9.mlp.gate_proj",
                             "model.layers.3.per_layer_input_gate"}) {
    const FisherTensor* fisher = statistics.find(std::string(module) + ".weight");
    ASSERT_NE(fisher, nullptr) << module;
    const auto n_rows = static_cast<int64_t>(fisher->rows.size());
    // The whole matrix, and of one of them half of the rows.
    for (const int64_t count : {n_rows, n_rows / 2}) {
      if (count < n_rows && module != std::string("model.layers.6.mlp.down_proj")) continue;
      double kl = 0, predicted = 0;
      for (unsigned seed = 0; seed < 4; ++seed) {
        const auto [k, p] = kl_and_prediction(*fisher, module, n_rows - count, count, seed);
        kl += k;
        predicted += p;
      }
      EXPECT_NEAR(kl / predicted, 1.0, 0.3) << module << " " << count;
    }
  }
}

// The quantizer's own probes measure the same thing by rounding each tensor: embeddings and tables
// included, no tensor may be far off, and all together are near.
TEST_F(FisherDiagonal, AgreesWithTheQuantizersProbes) {
  options_.window = 512;  // as the probes'
  const FisherStatistics statistics = measure_fisher(model_, options_, {});
  const TemporaryFolder folder;
  const std::string path = converted(data_path("nano-e"));
  ProbeOptions probe;
  probe.base = path;
  probe.scratch = folder.file("scratch");
  probe.codes = {Code::kW4};
  probe.tokens = options_.tokens;
  probe.n_tokens = kTokens / 2;
  const auto source = LapReader::open(path);
  const std::vector<TensorCosts> probed = measure_costs(*source, {}, probe, {});
  probe.fisher = &statistics;
  const std::vector<TensorCosts> told = measure_costs(*source, {}, probe, {});
  ASSERT_EQ(probed.size(), told.size());
  double sum_probed = 0, sum_told = 0;
  for (size_t i = 0; i < probed.size(); ++i) {
    const double a = probed[i].alone(Code::kW4), b = told[i].alone(Code::kW4);
    sum_probed += a;
    sum_told += b;
    EXPECT_LT(std::abs(std::log(b / a)), std::log(3.0)) << probed[i].name << " " << a << " " << b;
  }
  EXPECT_NEAR(sum_told / sum_probed, 1.0, 0.35);
}

TEST_F(FisherDiagonal, DoesNotDependOnTheNumberOfThreads) {
  options_.n_tokens = 100;
  const FisherStatistics two = measure_fisher(model_, options_, {});
  options_.n_threads = 1;
  const FisherStatistics one = measure_fisher(model_, options_, {});
  ASSERT_EQ(one.tensors.size(), two.tensors.size());
  for (size_t i = 0; i < one.tensors.size(); ++i) {
    EXPECT_EQ(one.tensors[i].rows, two.tensors[i].rows) << one.tensors[i].name;
    EXPECT_EQ(one.tensors[i].columns, two.tensors[i].columns) << one.tensors[i].name;
  }
}

TEST_F(FisherDiagonal, RefusesTokensOutsideTheVocabulary) {
  options_.tokens[3] = static_cast<int32_t>(model_->config().vocab_size);
  EXPECT_THROW(measure_fisher(model_, options_, {}), Error);
  options_.tokens.clear();
  EXPECT_THROW(measure_fisher(model_, options_, {}), Error);
}

}  // namespace
}  // namespace lapidary
