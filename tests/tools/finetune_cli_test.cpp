// Fine-tuning through the binary, where it hurts: killed at any moment, on a full disk, in two
// processes of which one dies, with data that is wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>

#include "tests/tools/finetune_fixture.h"

namespace lapidary {
namespace {

TEST_F(FinetuneCli, KilledAgainAndAgainItEndsWithTheSameBytes) {
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(lapidary_command(command("whole")).status, 0);
  const std::chrono::duration<double, std::milli> whole = std::chrono::steady_clock::now() - start;
  const std::string expected = result("whole");
  ASSERT_GT(expected.size(), 10000u);

  const auto resumed = command("killed", {"--resume", "--checkpoint-steps", "2"});
  int kills = 0;
  for (int i = 0; i < 40; ++i) {
    // Later each time, so that every part of the run is met; the first ones die while they load.
    RunLimits limits;
    limits.kill_after_ms = static_cast<int>(whole.count() * (0.25 + 0.07 * i));
    const bool begun = fs::exists(folder_.file("killed"));
    const Outcome outcome =
        lapidary_command(begun ? resumed : command("killed", {"--checkpoint-steps", "2"}), limits);
    if (outcome.status == 0) break;
    ASSERT_EQ(outcome.status, 1009) << outcome.err;
    ++kills;
  }
  EXPECT_GE(kills, 3);
  EXPECT_EQ(result("killed"), expected);
  // Nothing but the finished folder is left.
  EXPECT_FALSE(fs::exists(folder_.file("killed") + "/checkpoint"));
  for (const auto& entry : fs::directory_iterator(folder_.path()))
    EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << entry.path();
  const Outcome again = lapidary_command(resumed);
  EXPECT_EQ(again.status, 0);
  EXPECT_NE(again.err.find("finished already"), std::string::npos) << again.err;
}

class TwoProcesses : public FinetuneCli, public testing::WithParamInterface<const char*> {
 protected:
  std::vector<std::string> run(const char* output) const {
    return {"finetune",
            model_,
            "--data",
            folder_.file("data.jsonl"),
            "--steps",
            "8",
            "--context",
            "40",
            "--batch-tokens",
            "80",
            "--rank",
            "4",
            "--lr",
            "0.0002",
            "--threads",
            "1",
            "-o",
            folder_.file(output)};
  }
  // What torchrun or srun would say to this process. Slurm's port follows from the job's number.
  RunLimits said_to(int rank, int port) const {
    RunLimits limits = alone();
    std::vector<std::string> said{"SLURM_STEP_NUM_TASKS=2", "SLURM_PROCID=" + std::to_string(rank),
                                  "SLURM_JOB_ID=" + std::to_string(port - 20000),
                                  "SLURM_STEP_NODELIST=127.0.0.1"};
    if (GetParam() == std::string("torchrun")) said = process(rank, port).environment;
    limits.environment.insert(limits.environment.end(), said.begin(), said.end());
    return limits;
  }
  // On Intel's processors MKL adds up a product of two rows in another order than one of three;
  // bf16 makes 1e-3 of that. This takes one order for all.
  static RunLimits alone() {
    RunLimits limits;
    limits.environment = {"MKL_CBWR=COMPATIBLE"};
    return limits;
  }
};

TEST_P(TwoProcesses, TrainAsOne) {
  ASSERT_EQ(lapidary_command(run("one"), alone()).status, 0);
  int port = free_port();
  for (int tries = 0; port >= 40000 && tries < 100; ++tries) port = free_port();
  if (port >= 40000) port = 20000 + port % 20000;
  auto second = std::async(std::launch::async,
                           [&] { return lapidary_command(run("two"), said_to(1, port)); });
  const Outcome first = lapidary_command(run("two"), said_to(0, port));
  const Outcome other = second.get();
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(other.status, 0) << other.err;
  EXPECT_EQ(other.out, "");  // the first speaks for both
  const std::vector<double> one = losses("one"), two = losses("two");
  ASSERT_EQ(one.size(), 8u);
  ASSERT_EQ(two.size(), 8u);
  // The rows are the same; gradients of more than two of them are summed in another order, which
  // Adam, dividing by their size, lets through to some weights.
  EXPECT_EQ(two[0], one[0]);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(two[i], one[i], 1e-4 * one[i]) << i;
}

INSTANTIATE_TEST_SUITE_P(Launchers, TwoProcesses, testing::Values("torchrun", "slurm"));

TEST_F(FinetuneCli, ALostProcessStopsTheRunAndLeavesACheckpoint) {
  const int port = free_port();
  auto arguments = command("lost", {"--quiet"});
  *std::next(std::find(arguments.begin(), arguments.end(), "--steps")) = "100000";
  auto second = std::async(std::launch::async, [&] {
    // Dies some steps after both have met; on a slow machine the first process waits for it.
    RunLimits limits = process(1, port);
    limits.kill_after_ms = 10000;
    return lapidary_command(arguments, limits);
  });
  const Outcome first = lapidary_command(arguments, process(0, port));
  EXPECT_EQ(second.get().status, 1009);
  expect_error(first, 74, "another process of the run is gone");
  if (losses("lost").empty()) GTEST_SKIP() << "too slow for a step in ten seconds";
  EXPECT_NE(first.err.find("continue with --resume"), std::string::npos) << first.err;
  EXPECT_TRUE(fs::exists(folder_.file("lost") + "/checkpoint"));
}

TEST_F(FinetuneCli, AFullDiskLosesNothing) {
  RunLimits full;
  full.file_bytes = 60000;  // the adapter's state needs more
  const Outcome outcome =
      lapidary_command(command("full", {"--quiet", "--checkpoint-steps", "2"}), full);
  expect_error(outcome, 74, "cannot write");
  EXPECT_FALSE(fs::exists(folder_.file("full") + "/adapter_config.json"));
  // With room again, the run goes on.
  EXPECT_EQ(lapidary_command(command("full", {"--quiet", "--resume"})).status, 0);
  ASSERT_EQ(lapidary_command(command("whole")).status, 0);
  EXPECT_EQ(result("full"), result("whole"));
}

TEST_F(FinetuneCli, SaysInOneLineWhatIsWrongWithTheData) {
  const auto with = [&](const std::string& text) {
    std::ofstream(folder_.file("bad.jsonl"), std::ios::binary) << text;
    return lapidary_command({"finetune", model_, "--data", folder_.file("bad.jsonl"), "-o",
                             folder_.file("bad"), "--quiet"});
  };
  const std::string good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
  expect_error(with(""), 65, "the file is empty");
  expect_error(with(good + "{\"prompt\": "), 65, "line 2");
  expect_error(with(good + good + "[]"), 65, "line 3");
  expect_error(with(good + std::string("{\"text\": \"\0\"}", 13)), 65, "line 2");
  expect_error(with(R"({"messages": [{"role": "user", "content": "only asks"}]})"), 65,
               "no assistant turn");
  expect_error(with("\x28\xb5\x2f\xfd not zstd"), 65, "damaged zstd");
  EXPECT_FALSE(fs::exists(folder_.file("bad")));
}

}  // namespace
}  // namespace lapidary
