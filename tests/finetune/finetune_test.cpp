// Whole runs: what stands in the folder at the end, what is learned, and that an interrupted run
// ends as if it had not been interrupted.
#include "finetune/finetune.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "finetune/trainer.h"
#include "formats/file.h"
#include "tests/finetune/fixtures.h"
#include "tests/finetune_data.h"

namespace lapidary {
namespace {

// Letters to count, and general items in the skills' own form.
class Finetune : public testing::Test {
 protected:
  Finetune() {
    write_letter_counts(folder_.file("data.jsonl"), 60);
    write_known_skills(folder_.file("general.jsonl"), 40);
    options_.model = converted(data_path("nano-e"));
    options_.data = folder_.file("data.jsonl");
    options_.general = {folder_.file("general.jsonl")};
    options_.output = folder_.file("tuned");
    options_.steps = 6;
    options_.context = 128;
    options_.batch_tokens = 200;
    options_.rank = 4;
    options_.learning_rate = 2e-3;
    options_.checkpoint_steps = 2;
    options_.n_threads = 2;
  }

  std::string bytes(const std::string& output) const {
    std::string all;
    for (const char* file : {"/adapter_model.safetensors", "/adapter_config.json", "/log.jsonl",
                             "/lapidary.json", "/probe.safetensors"})
      all += read_text(output + file);
    return all;
  }
  std::string message(const FinetuneOptions& options, ErrorCode code) const {
    try {
      finetune(options, {});
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      return e.what();
    }
    ADD_FAILURE() << "no Error";
    return {};
  }

  TemporaryFolder folder_;
  FinetuneOptions options_;
};

TEST_F(Finetune, WritesAdapterLogAndIdentity) {
  std::vector<std::string> notes;
  options_.hold_out = 20;
  Events events;
  events.on_note = [&](const std::string& note) { notes.push_back(note); };
  const FinetuneReport report = finetune(options_, events);
  EXPECT_EQ(report.steps, 6);
  EXPECT_GT(report.trained_parameters, 0);
  EXPECT_EQ(report.losses.size(), 6u);
  EXPECT_NE(notes.at(0).find("60 examples (prompt/completion 60)"), std::string::npos);
  EXPECT_FALSE(path_exists(options_.output + "/checkpoint"));

  const auto model = Model::load(options_.model);
  const PeftAdapter adapter = read_peft(options_.output);
  EXPECT_EQ(adapter.base_hash, model->file().content_hash());
  EXPECT_EQ(adapter.config.rank, 4);
  EXPECT_EQ(adapter.modules.size(), 60u);  // ten layers, five of them without k and v

  std::istringstream log(read_text(options_.output + "/log.jsonl"));
  std::string line;
  nlohmann::json last;
  int64_t lines = 0, evaluations = 0;
  while (std::getline(log, line)) {
    const nlohmann::json json = nlohmann::json::parse(line);
    evaluations += json.contains("gate");
    if (json.contains("gate")) continue;
    last = json;
    EXPECT_EQ(last.at("step"), ++lines);
    // Exact to one token after every step.
    EXPECT_LE(
        std::abs(last.at("general_tokens").get<double>() - 0.15 * last.at("tokens").get<double>()),
        1.0);
  }
  EXPECT_EQ(lines, 6);
  EXPECT_EQ(evaluations, 7);  // before the first step, and after each of so few
  EXPECT_EQ(last.at("loss"), report.final_loss);
  EXPECT_EQ(last.at("tokens"), report.tokens);
  EXPECT_EQ(last.at("general_tokens"), report.general_tokens);
  EXPECT_EQ(last.at("lr"), 2e-3);
}

TEST_F(Finetune, TheEngineReadsTheAdapterAsItWasTrained) {
  for (const bool dora : {false, true}) {
    options_.dora = dora;
    options_.overwrite = true;
    finetune(options_, {});
    check_probe(options_.model, options_.output);
  }
}

TEST_F(Finetune, OverwriteReplacesNoFolderThatIsNotARun) {
  std::filesystem::create_directory(options_.output);
  std::ofstream(options_.output + "/m.lap") << "a model";
  options_.overwrite = true;
  EXPECT_NE(message(options_, ErrorCode::kUsage).find("neither an adapter"), std::string::npos);
  EXPECT_TRUE(path_exists(options_.output + "/m.lap"));
}

TEST_F(Finetune, LearnsOnAPackedBase) {
  options_.model = quantized(data_path("nano-e"), "w4");
  options_.steps = 12;
  options_.general.clear();
  options_.learning_rate = 5e-3;
  const FinetuneReport report = finetune(options_, {});
  EXPECT_LT(report.final_loss, 0.6 * report.first_loss);
  EXPECT_EQ(report.general_tokens, 0);
  check_probe(options_.model, options_.output);
}

TEST_F(Finetune, ARunThatDiedContinuesToTheSameBytes) {
  finetune(options_, {});
  const std::string expected = bytes(options_.output);
  options_.output = folder_.file("died");
  Events dies;
  dies.on_progress = [](const Progress& p) {
    if (p.done == 5) throw std::runtime_error("power cut");
  };
  EXPECT_THROW(finetune(options_, dies), std::runtime_error);
  EXPECT_TRUE(path_exists(options_.output + "/checkpoint/step-00000004/state.json"));
  EXPECT_FALSE(path_exists(options_.output + "/adapter_config.json"));
  options_.resume = true;
  finetune(options_, {});
  EXPECT_EQ(bytes(options_.output), expected);
}

TEST_F(Finetune, AnInterruptedRunLeavesACheckpointOfItsLastStep) {
  finetune(options_, {});
  const std::string expected = bytes(options_.output);
  options_.output = folder_.file("interrupted");
  options_.checkpoint_steps = 0;
  std::atomic<bool> cancelled = false;
  Events events;
  events.cancelled = &cancelled;
  events.on_progress = [&](const Progress& p) { cancelled = p.done == 3; };
  try {
    finetune(options_, events);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInterrupted);
    EXPECT_NE(std::string(e.what()).find("after step 3 of 6"), std::string::npos) << e.what();
  }
  EXPECT_NE(message(options_, ErrorCode::kUsage).find("--resume"), std::string::npos);
  FinetuneOptions other = options_;
  other.resume = true;
  other.rank *= 2;
  EXPECT_NE(message(other, ErrorCode::kUsage).find("--rank"), std::string::npos);
  options_.resume = true;
  options_.n_threads = 1;  // results do not depend on the number of threads
  finetune(options_, {});
  EXPECT_EQ(bytes(options_.output), expected);
}

TEST_F(Finetune, InterruptedBeforeItsFirstStepLeavesNothing) {
  const std::atomic<bool> cancelled = true;
  Events events;
  events.cancelled = &cancelled;
  EXPECT_THROW(finetune(options_, events), Error);
  EXPECT_FALSE(path_exists(options_.output));
}

TEST_F(Finetune, ADivergedRunMayContinueWithALowerRate) {
  Events dies;
  dies.on_progress = [](const Progress& p) {
    if (p.done == 5) throw std::runtime_error("power cut");
  };
  EXPECT_THROW(finetune(options_, dies), std::runtime_error);
  options_.resume = true;
  options_.learning_rate = 1e-4;
  std::string notes;
  Events events;
  events.on_note = [&](const std::string& note) { notes += note + "\n"; };
  finetune(options_, events);
  EXPECT_NE(notes.find("continuing with --lr 0.0001"), std::string::npos) << notes;
  std::istringstream log(read_text(options_.output + "/log.jsonl"));
  std::vector<std::string> steps;
  for (std::string line; std::getline(log, line);)
    if (line.find("\"lr\"") != std::string::npos) steps.push_back(line);
  ASSERT_EQ(steps.size(), 6u);
  EXPECT_EQ(steps[3].find("\"lr\":0.0001"), std::string::npos) << steps[3];
  EXPECT_NE(steps[4].find("\"lr\":0.0001"), std::string::npos) << steps[4];
}

TEST_F(Finetune, SaysWhatIsWrong) {
  const auto with = [&](auto change) {
    FinetuneOptions o = options_;
    change(o);
    return o;
  };
  EXPECT_NE(message(with([](auto& o) { o.targets = {"x_proj"}; }), ErrorCode::kUsage)
                .find("there are: q_proj"),
            std::string::npos);
  EXPECT_NE(message(with([](auto& o) { o.context = 6; }), ErrorCode::kBadData).find("--context"),
            std::string::npos);
  message(with([](auto& o) { o.schedule = "step"; }), ErrorCode::kUsage);
  message(with([](auto& o) { o.rank = 0; }), ErrorCode::kUsage);
  message(with([](auto& o) { o.learning_rate = NAN; }), ErrorCode::kUsage);
  message(with([](auto& o) { o.general_share = 1; }), ErrorCode::kUsage);
  message(with([](auto& o) { o.model += "x"; }), ErrorCode::kNotFound);
  message(with([](auto& o) { o.data += "x"; }), ErrorCode::kNotFound);
  message(with([](auto& o) { o.output = o.data; }), ErrorCode::kUsage);
  message(with([](auto& o) { o.resume = true; }), ErrorCode::kNotFound);
  message(with([](auto& o) { o.kl_to_base = 1, o.general.clear(); }), ErrorCode::kUsage);
  message(with([](auto& o) { o.general[0] += "=0"; }), ErrorCode::kUsage);
  EXPECT_FALSE(path_exists(options_.output));
  const std::string said =
      message(with([](auto& o) { o.learning_rate = 1e30, o.clip_norm = 0; }), ErrorCode::kBadData);
  EXPECT_NE(said.find("not finite at step 2"), std::string::npos) << said;
  EXPECT_NE(said.find("a checkpoint of step 1 stands"), std::string::npos) << said;
}

}  // namespace
}  // namespace lapidary
