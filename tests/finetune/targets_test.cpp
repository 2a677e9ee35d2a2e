// Names of targets, ranks of their own, and the memory plan's arithmetic.
#include "finetune/targets.h"

#include <gtest/gtest.h>

#include "convert/synthetic.h"
#include "finetune/memory_plan.h"
#include "finetune/trainer.h"
#include "formats/error.h"
#include "formats/peft_config.h"
#include "tests/finetune/fixtures.h"

namespace lapidary {
namespace {

TEST(Targets, SortExpertsIntoParameters) {
  const auto model = load_converted(data_path("tiny-moe"));
  PeftConfig config;
  config.rank = 4;
  config.alpha = 8;
  config.target_modules = {"all-linear"};
  const PeftAdapter adapter =
      Trainer::initial_adapter(*model, config, 1, {"experts=2", "layers.1=8"});
  EXPECT_EQ(adapter.config.target_modules.size(), 7u);
  EXPECT_EQ(adapter.config.target_parameters,
            (std::vector<std::string>{kExpertsGateUp, kExpertsDown}));
  for (const LoraModule& m : adapter.modules) {
    EXPECT_EQ(m.n_experts, m.module.find("experts") == std::string::npos ? 0 : 8) << m.module;
    EXPECT_EQ(m.scale, 2.0f) << m.module;
    if (m.module == "model.layers.0.experts.down_proj") {
      EXPECT_EQ(m.rank, 2);
    }
    if (m.module == "model.layers.1.mlp.up_proj") {
      EXPECT_EQ(m.rank, 8);
    }
    if (m.module == "model.layers.0.mlp.up_proj") {
      EXPECT_EQ(m.rank, 4);
    }
  }
  TemporaryFolder folder;
  write_peft(folder.path(), adapter);
  EXPECT_EQ(read_peft(folder.path()).modules.size(), adapter.modules.size());
}

TEST(Targets, SayWhatThereIs) {
  const auto model = load_converted(data_path("nano-e"));
  const auto make = [&](std::vector<std::string> targets, std::vector<std::string> ranks) {
    PeftConfig config;
    config.target_modules = std::move(targets);
    return Trainer::initial_adapter(*model, config, 1, ranks);
  };
  EXPECT_THROW(make({"experts"}, {}), Error);
  EXPECT_THROW(make({"q_proj"}, {"v_proj=4"}), Error);
  EXPECT_THROW(make({"q_proj"}, {"q_proj=0"}), Error);
  EXPECT_THROW(make({"q_proj"}, {"q_proj"}), Error);
}

TEST(MemoryPlan, CountsTheParametersThatATrainerHas) {
  for (const char* name : {"nano-e", "tiny-moe", "tiny-llama3"}) {
    const auto model = load_converted(data_path(name));
    MemoryPlanOptions o;
    o.peft.rank = 4;
    o.peft.target_modules = {"all-linear"};
    const PeftAdapter adapter = Trainer::initial_adapter(*model, o.peft, 1);
    EXPECT_EQ(plan_memory(model->config(), 0, o).trained_parameters,
              Trainer(model, adapter, {}).trained_parameters())
        << name;
  }
}

// The head of 8,192 learned tokens over 262,144 words: one chunk of logits and the states'
// gradient.
TEST(MemoryPlan, KeepsTheHeadUnderAGigabyte) {
  const ModelConfig config = synthetic_source({.shape = "31b"})->metadata().config;
  MemoryPlanOptions o;
  o.tokens = 8192;
  o.peft.target_modules = {"q_proj"};
  o.checkpoint_activations = true;
  const int64_t logits = int64_t{512} << 20;
  EXPECT_LT(logits + 2 * o.tokens * config.d_model * 4, int64_t{1} << 30);
  EXPECT_GT(plan_memory(config, 0, o).total(), logits);
}

}  // namespace
}  // namespace lapidary
