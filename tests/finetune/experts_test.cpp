// Whole runs on a mixture of experts: what is trained on stacks is what the engine reads, what a
// merge stores, and what an interrupted run goes on with.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "finetune/finetune.h"
#include "finetune/trainer.h"
#include "formats/file.h"
#include "formats/lap_copy.h"
#include "quantize/merge.h"
#include "quantize/merged_source.h"
#include "tests/finetune/fixtures.h"

namespace lapidary {
namespace {

class ExpertRun : public testing::Test {
 protected:
  ExpertRun() {
    std::ofstream data(folder_.file("data.jsonl"));
    for (int i = 0; i < 30; ++i)
      data << R"({"text": "The )" << i << R"( birds flew over the )" << i * 7 % 10
           << R"( hills and sang."})"
           << "\n";
    options_.model = converted(data_path("tiny-moe"));
    options_.data = folder_.file("data.jsonl");
    options_.output = folder_.file("tuned");
    options_.targets = {"all-linear"};
    options_.rank_for = {"experts=2"};
    options_.steps = 4;
    options_.context = 64;
    options_.batch_tokens = 100;
    options_.rank = 4;
    options_.learning_rate = 5e-3;
    options_.n_threads = 2;
    options_.precision = "f32";
  }

  // Logits of the probe's text by the model alone; all that is left of an adapter is in its
  // weights.
  std::vector<float> logits_of(const std::string& path) const {
    const auto model = Model::load(path);
    PeftConfig config;
    config.rank = 1;
    config.target_modules = {"q_proj"};
    Trainer trainer(model, Trainer::initial_adapter(*model, config, 0), {});
    const auto probe = SafetensorsSet::open_file(options_.output + "/probe.safetensors");
    const std::vector<float> all = trainer.logits(probe.read_ints(*probe.find("ids")));
    return {all.end() - static_cast<int64_t>(probed().size()), all.end()};
  }
  std::vector<float> probed() const {
    return read_tensor(SafetensorsSet::open_file(options_.output + "/probe.safetensors"), "logits")
        .values;
  }

  // Float32 sums in another order; the parity bound of the whole project.
  static void expect_same(const std::vector<float>& a, const std::vector<float>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-3f) << i;
  }

  TemporaryFolder folder_;
  FinetuneOptions options_;
};

TEST_F(ExpertRun, TheEngineReadsWhatWasTrained) {
  for (const bool dora : {false, true}) {
    options_.dora = dora;
    options_.overwrite = true;
    const FinetuneReport report = finetune(options_, {});
    EXPECT_LT(report.final_loss, report.first_loss);
    check_probe(options_.model, options_.output);
  }
}

// Every expert that saw a token has learned lengths of its own.
TEST_F(ExpertRun, DoraLearnsTheLengthsOfEveryExpertsRows) {
  options_.dora = true;
  finetune(options_, {});
  const PeftAdapter adapter = read_peft(options_.output);
  const auto base = LapReader::open(options_.model);
  for (const LoraModule& m : adapter.modules) {
    if (m.n_experts == 0) continue;
    ASSERT_EQ(m.magnitude.size(), static_cast<size_t>(m.n_experts * m.out));
    std::vector<float> w(static_cast<size_t>(m.n_experts * m.out * m.in));
    for (size_t i = 0; i < base->tensors().size(); ++i)
      if (base->tensors()[i].name == m.module) base->read_rows(i, 0, m.n_experts * m.out, w);
    int64_t n_changed = 0;
    for (int64_t row = 0; row < m.n_experts * m.out; ++row) {
      double squares = 0;
      for (int64_t i = 0; i < m.in; ++i) {
        const double value = w[static_cast<size_t>(row * m.in + i)];
        squares += value * value;
      }
      const double length = std::sqrt(squares);
      const double change = std::abs(m.magnitude[static_cast<size_t>(row)] - length);
      n_changed += change > 1e-4 * length;
      EXPECT_LT(change, 0.2 * length + 0.1) << m.module;  // four steps of 5e-3 each
    }
    EXPECT_GT(n_changed, m.n_experts * m.out / 4) << m.module;  // most experts saw tokens
  }
}

TEST_F(ExpertRun, MergesWithTheLengthsOfEveryExpertsRows) {
  options_.dora = true;
  finetune(options_, {});
  const auto base = LapReader::open(options_.model);
  const PeftAdapter adapter = read_peft(options_.output);
  const MergedSource merged(*base, adapter, base->metadata(), /*exact=*/true);
  copy_to_lap(merged, folder_.file("m.lap"), base->metadata(),
              {base->tokenizer_json(), base->tokenizer_tables()}, /*is_source=*/true, {});
  expect_same(logits_of(folder_.file("m.lap")), probed());
}

// The best adapter so far stands in a checkpoint, stacks included.
TEST_F(ExpertRun, ARunThatDiedContinuesToTheSameBytes) {
  options_.eval_data = folder_.file("eval.jsonl");
  std::ofstream(options_.eval_data) << R"({"text": "A bird flew home."})"
                                    << "\n";
  options_.eval_steps = 1;
  options_.checkpoint_steps = 1;
  for (const bool dora : {false, true}) {
    options_.dora = dora;
    options_.output = folder_.file(dora ? "dora" : "lora");
    finetune(options_, {});
    const std::string expected = read_text(options_.output + "/adapter_model.safetensors");
    options_.output += "-died";
    Events dies;
    dies.on_progress = [](const Progress& p) {
      if (p.done == 3) throw std::runtime_error("power cut");
    };
    EXPECT_THROW(finetune(options_, dies), std::runtime_error);
    options_.resume = true;
    finetune(options_, {});
    EXPECT_EQ(read_text(options_.output + "/adapter_model.safetensors"), expected);
    options_.resume = false;
  }
}

// Bit for bit, where every adapted matrix is wide enough for a code.
TEST_F(ExpertRun, MergeAwareEndsAsTheVeryModelThatMergeWrites) {
  options_.targets = {"q_proj", "experts.gate_up_proj"};
  for (const char* code : {"w8", "w4"}) {
    options_.overwrite = true;
    options_.merge_aware = merge_aware(options_.model, code, 2);
    finetune(options_, {});
    MergeOptions merge_options;
    merge_options.weights = *parse_code(code);
    const std::string merged = folder_.file(std::string("merged-") + code);
    merge(options_.model, options_.output, merged, merge_options, {});
    EXPECT_EQ(logits_of(merged), probed()) << code;
  }
}

// Experts of 24 inputs stay floats: the sum is what base and update say.
TEST_F(ExpertRun, MergeAwareLeavesFloatsWhatAMergeLeavesFloats) {
  options_.merge_aware = merge_aware(options_.model, "w8", 2);
  finetune(options_, {});
  MergeOptions merge_options;
  merge_options.weights = Code::kW8;
  merge(options_.model, options_.output, folder_.file("merged.lap"), merge_options, {});
  expect_same(logits_of(folder_.file("merged.lap")), probed());
}

}  // namespace
}  // namespace lapidary
