// What can go wrong with quantize's inputs, through the binary: damaged weights, activations that
// are not numbers, empty texts, impossible budgets, a full disk. One clear line each, the
// documented status, and no file left behind.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/dtype.h"
#include "formats/file.h"
#include "formats/lap.h"
#include "tests/test_data.h"
#include "tests/tools/command_runner.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

const std::string kNorm = "model.layers.1.input_layernorm.weight";
const std::string kMatrix = "model.layers.1.mlp.up_proj.weight";

class QuantizeInput : public ::testing::Test {
 protected:
  void SetUp() override {
    convert(*HfSource::open(data_path("nano-e")), model_, {});
    std::ofstream(text_)
        << "Ten thousand words would be too many for a test, so these few must do.";
    fs::create_directory(folder_.file("out"));
  }

  // Overwrites the first bf16 value of a tensor; the file's hashes of tensors no longer fit, which
  // only `inspect --verify` looks at.
  void damage(const std::string& name, float value) const {
    const auto reader = LapReader::open(model_);
    for (const LapTensor& t : reader->index()) {
      if (t.name != name) continue;
      const uint16_t bits = float_to_bf16(value);
      std::fstream file(model_, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(t.offset));
      file.write(reinterpret_cast<const char*>(&bits), 2);
      return;
    }
    FAIL() << "no tensor " << name;
  }

  Outcome quantize(std::vector<std::string> more, const RunLimits& limits = {}) const {
    std::vector<std::string> all{"quantize", model_, "-o", output_, "--quiet"};
    all.insert(all.end(), more.begin(), more.end());
    return lapidary_command(all, limits);
  }
  void expect_nothing_written() const { EXPECT_TRUE(fs::is_empty(folder_.file("out"))); }

  bool calibrates() const {
    return lapidary_command({"quantize", "--help"}).out.find("--calibrate ") != std::string::npos;
  }

  // Every way of rounding: plain, under a budget, and with error feedback.
  std::vector<std::vector<std::string>> ways() const {
    std::vector<std::vector<std::string>> ways{
        {"--weights", "w4"}, {"--weights", "t4"}, {"--target-bpw", "5"}};
    if (calibrates()) ways.push_back(calibrated_way());
    return ways;
  }
  std::vector<std::string> calibrated_way() const {
    return {"--weights", "w4", "--calibrate", text_};
  }

  TemporaryFolder folder_;
  std::string model_ = folder_.file("nano-e.lap"), text_ = folder_.file("text.txt"),
              output_ = folder_.file("out/q.lap");
};

TEST_F(QuantizeInput, WeightsThatAreNoNumbersNameTheirTensor) {
  for (const float value : {std::nanf(""), -INFINITY}) {
    damage(kMatrix, value);
    for (const auto& way : ways()) {
      expect_error(quantize(way), 65, kMatrix);
      expect_nothing_written();
    }
  }
}

TEST_F(QuantizeInput, ActivationsThatAreNoNumbersAreDamagedWeights) {
  damage(kNorm, 3e38f);
  for (const auto& way : ways()) {
    if (way[0] == "--weights" && way.size() == 2) continue;  // computes nothing
    expect_error(quantize(way), 65, "damaged");
    expect_nothing_written();
  }
}

TEST_F(QuantizeInput, AnEmptyCalibrationTextIsSaid) {
  if (!calibrates()) GTEST_SKIP() << "quantize --calibrate is not in this build";
  std::ofstream(text_, std::ios::trunc).close();
  expect_error(quantize({"--weights", "w4", "--calibrate", text_}), 65, "empty");
  expect_error(quantize({"--weights", "w4", "--calibrate", folder_.file("none.txt")}), 66, "none");
  expect_nothing_written();
}

TEST_F(QuantizeInput, ABudgetBelowTheSmallestCodeIsSaidWithTheSmallest) {
  expect_error(quantize({"--target-bpw", "1"}), 64, "smallest");
  expect_error(quantize({"--target-size", "100kB"}), 64, "smallest");
  expect_nothing_written();
}

TEST_F(QuantizeInput, AFullDiskLeavesNothing) {
  RunLimits limits;
  limits.file_bytes = 1 << 20;
  for (const auto& way : ways()) {
    if (way == calibrated_way()) continue;
    expect_error(quantize(way, limits), 74, "q.lap");
    expect_nothing_written();
  }
  limits.file_bytes = 10'000;  // before the first layer is finished
  expect_error(quantize(calibrated_way(), limits), 74, "q.lap");
  expect_nothing_written();
}

// Calibration takes long: what it has finished when the disk is full is there for --resume.
TEST_F(QuantizeInput, AFullDiskKeepsFinishedLayers) {
  ASSERT_EQ(quantize(calibrated_way()).status, 0);
  const std::string whole = read_text(output_);
  fs::remove(output_);
  RunLimits limits;
  limits.file_bytes = 1 << 20;  // every layer fits, the output does not
  expect_error(quantize(calibrated_way(), limits), 74, "--resume");
  EXPECT_FALSE(fs::exists(output_));
  auto resumed = calibrated_way();
  resumed.push_back("--resume");
  ASSERT_EQ(quantize(resumed).status, 0);
  EXPECT_EQ(read_text(output_), whole);
  EXPECT_FALSE(fs::exists(output_ + ".partial"));
}

TEST_F(QuantizeInput, APowerCutAtAnyMomentIsResumedToTheSameBytes) {
  std::ofstream(text_) << read_text(data_path("own.txt")).substr(0, 20'000);
  auto way = calibrated_way();
  ASSERT_EQ(quantize(way).status, 0);
  const std::string whole = read_text(output_);
  fs::remove(output_);
  way.push_back("--resume");
  RunLimits limits;
  for (limits.kill_after_ms = 100; limits.kill_after_ms < 1000; limits.kill_after_ms += 300) {
    quantize(way, limits);
    if (fs::exists(output_)) {
      EXPECT_EQ(read_text(output_), whole);
    }
  }
  ASSERT_EQ(quantize(way).status, 0);
  EXPECT_EQ(read_text(output_), whole);
  EXPECT_FALSE(fs::exists(output_ + ".partial"));
}

TEST_F(QuantizeInput, AFolderThatIsNotThereIsSaid) {
  fs::remove(folder_.file("out"));
  for (const auto& way : ways()) {
    const Outcome outcome = quantize(way);
    EXPECT_TRUE(outcome.status == 66 || outcome.status == 74) << outcome.status;
    EXPECT_EQ(count_lines(outcome.err), 1u) << outcome.err;
  }
}

TEST_F(QuantizeInput, DequantizedGgufIsNoOriginal) {
  const std::string gguf = folder_.file("k.gguf");
  ASSERT_EQ(
      lapidary_command({"export", model_, "--to", "gguf", "--type", "q4_k", "-o", gguf, "--quiet"})
          .status,
      0);
  expect_error(lapidary_command({"quantize", gguf, "-o", output_}), 64, "--allow-requantize");
  EXPECT_EQ(
      lapidary_command({"quantize", gguf, "-o", output_, "--allow-requantize", "--quiet"}).status,
      0);
}

// Keys and tokenizer count: a GGUF file is as large as its user says.
TEST_F(QuantizeInput, AGgufFileKeepsItsSize) {
  const std::string gguf = folder_.file("out/m.gguf");
  const auto write = [&](std::vector<std::string> more) {
    std::vector<std::string> all{"quantize", model_,          "-o", gguf, "--quiet",
                                 "--keep",   "*layers.*=q4_0"};
    all.insert(all.end(), more.begin(), more.end());
    return lapidary_command(all);
  };
  expect_error(write({"--target-bpw", "6", "--codes", "w4"}), 64, "--codes is for .lap files");
  expect_error(write({"--target-bpw", "6", "--max-kld", "1"}), 64, "one of the three");
  expect_error(write({"--max-kld", "0.0001", "--probe-tokens", "64"}), 64, "the best types give");
  expect_error(write({"--target-size", "2MB"}), 64, "the budget allows");
  expect_error(write({"--target-bpw", "6", "--fisher", "none"}), 66, "none");
  expect_nothing_written();
  ASSERT_EQ(write({"--target-size", "6MB", "--probe-tokens", "64"}).status, 0);
  EXPECT_LE(fs::file_size(gguf), 6'000'000u);
  EXPECT_GT(fs::file_size(gguf), 5'500'000u);
  const Outcome limited = write({"--max-kld", "0.3", "--probe-tokens", "64", "--json"});
  ASSERT_EQ(limited.status, 0) << limited.err;
  EXPECT_LE(nlohmann::json::parse(limited.out)["measured_kld"], 0.3);
}

}  // namespace
}  // namespace lapidary
