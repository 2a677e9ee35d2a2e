// The verdicts that the project promises on a real model: itself PASS with exactly zero, eight bits
// PASS, noise FAIL, too few tokens INCONCLUSIVE. Through the binary, because exit statuses are part
// of the promise.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/dtype.h"
#include "tests/test_data.h"
#include "tests/tools/command_runner.h"

namespace lapidary {
namespace {

// A model whose matrices carry noise of `share` of their own size: valid in every byte, and worse.
class NoisySource : public ModelSource {
 public:
  NoisySource(std::unique_ptr<HfSource> clean, float share)
      : clean_(std::move(clean)), share_(share) {}

  const ModelMetadata& metadata() const override { return clean_->metadata(); }
  std::string tokenizer_json() const override { return clean_->tokenizer_json(); }
  const std::vector<SourceTensor>& tensors() const override { return clean_->tensors(); }
  std::string content_hash() const override { return {}; }
  std::string describe() const override { return "noisy " + clean_->describe(); }

  void read_rows(size_t index, int64_t first, int64_t count, std::span<float> out) const override {
    clean_->read_rows(index, first, count, out);
    if (tensors()[index].shape.size() < 2) return;
    double squares = 0;
    for (const float x : out) squares += double{x} * x;
    std::mt19937 dice(static_cast<uint32_t>(1000 * index + first));
    std::normal_distribution<float> noise(
        0, share_ * static_cast<float>(std::sqrt(squares / static_cast<double>(out.size()))));
    for (float& x : out) x += noise(dice);
  }
  void read_raw(size_t index, int64_t first, int64_t count, std::span<uint8_t> out) const override {
    if (tensors()[index].shape.size() < 2) return clean_->read_raw(index, first, count, out);
    std::vector<float> rows(out.size() / 2);  // the fixture is bf16 throughout
    read_rows(index, first, count, rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      const uint16_t bits = float_to_bf16(rows[i]);
      out[2 * i] = static_cast<uint8_t>(bits);
      out[2 * i + 1] = static_cast<uint8_t>(bits >> 8);
    }
  }

 private:
  std::unique_ptr<HfSource> clean_;
  float share_;
};

class VerdictFlow : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = folder_.file("nano-e.lap");
    convert(*HfSource::open(data_path("nano-e")), model_, {});
  }
  nlohmann::json verify(const std::string& candidate, int tokens, int expected_status) {
    const Outcome o = lapidary_command({"verify", model_, candidate, "--text", data_path("own.txt"),
                                        "--limit-tokens", std::to_string(tokens), "--json"});
    EXPECT_EQ(o.status, expected_status) << o.err << o.out;
    return nlohmann::json::parse(o.out);
  }
  std::string quantized(const std::string& code) {
    const std::string path = folder_.file(code + ".lap");
    EXPECT_EQ(lapidary_command({"quantize", model_, "-o", path, "--weights", code}).status, 0);
    return path;
  }

  TemporaryFolder folder_;
  std::string model_;
};

TEST_F(VerdictFlow, AFileAgainstItselfPassesWithExactlyZeroAtAnySize) {
  const nlohmann::json json = verify(model_, 300, 0);
  EXPECT_EQ(json["verdict"], "PASS");
  EXPECT_EQ(json["text"]["nll_base"], json["text"]["nll_candidate"]);
  EXPECT_EQ(json["text"]["kld_mean"], 0.0);
  EXPECT_EQ(json["text"]["interval"], (nlohmann::json{0.0, 0.0}));
}

TEST_F(VerdictFlow, WithoutATextTheBuiltInOneIsUsed) {
  const Outcome o = lapidary_command({"verify", model_, model_, "--json"});
  EXPECT_EQ(o.status, 0);
  EXPECT_GT(nlohmann::json::parse(o.out)["text"]["tokens"], 2000);
}

TEST_F(VerdictFlow, EightBitsPass) {
  EXPECT_EQ(verify(quantized("w8"), 3000, 0)["verdict"], "PASS");
}

TEST_F(VerdictFlow, NoiseFails) {
  const std::string noisy = folder_.file("noisy.lap");
  convert(NoisySource(HfSource::open(data_path("nano-e")), 0.5f), noisy, {});
  EXPECT_EQ(lapidary_command({"inspect", noisy, "--verify", "--summary"}).status, 0);
  EXPECT_EQ(verify(noisy, 3000, 1)["verdict"], "FAIL");
}

TEST_F(VerdictFlow, FourBitsOnTwoHundredTokensAreInconclusive) {
  const nlohmann::json json = verify(quantized("w4"), 200, 2);
  EXPECT_EQ(json["verdict"], "INCONCLUSIVE");
  EXPECT_FALSE(json["reasons"].empty());
}

}  // namespace
}  // namespace lapidary
