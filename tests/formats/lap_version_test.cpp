// A released version stays readable: tests/data/format/v1.lap was written when version 1 was made
// and is never written again. Its identity and the values of its weights must stay what they were.
//
// It was made by the disabled test below:
//   formats_test --gtest_also_run_disabled_tests --gtest_filter=LapVersion.DISABLED_WriteVersion1
#include <gtest/gtest.h>

#include "formats/lap.h"
#include "tests/formats/lap_fixture.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

constexpr const char* kVersion1 = "format/v1.lap";

constexpr std::string_view kVersion1Tokenizer = "{\"model\":{\"type\":\"BPE\"}}";

TEST(LapVersion, DISABLED_WriteVersion1) {
  std::vector<LapTensor> tensors = small_tensors();
  for (const Code code : {Code::kW8, Code::kW6, Code::kW5, Code::kW4x, Code::kW8x})
    tensors.push_back(panel_tensor("panels." + std::string(code_name(code)), {3, 64}, code));
  tensors.back().scale_type = ScaleType::kBF16;
  tensors.push_back(plain_tensor("plain.f16", {5}, Code::kF16));
  std::filesystem::create_directories(data_path("format"));
  const std::vector<uint8_t> tables(100, 42);
  write_small_lap(data_path(kVersion1), tensors, small_metadata(), {kVersion1Tokenizer, tables});
}

TEST(LapVersion, Version1StillOpensAndMeansTheSame) {
  const auto reader = LapReader::open(data_path(kVersion1));
  EXPECT_TRUE(reader->verify({}).empty());
  EXPECT_EQ(reader->content_hash(), "98e8a8dec582f7f36fc591579e5fe192");
  EXPECT_EQ(reader->metadata().config, small_metadata().config);
  EXPECT_EQ(reader->metadata().chat_template, "{{ messages }}");
  EXPECT_EQ(reader->tokenizer_json(), kVersion1Tokenizer);
  EXPECT_EQ(reader->tokenizer_tables().size(), 100u);
  ASSERT_EQ(reader->tensors().size(), 11u);
  StreamingHash values;
  for (size_t i = 0; i < reader->tensors().size(); ++i) {
    const SourceTensor& t = reader->tensors()[i];
    std::vector<float> rows(static_cast<size_t>(t.elements()));
    reader->read_rows(i, 0, t.rows(), rows);
    values.update({reinterpret_cast<const uint8_t*>(rows.data()), rows.size() * sizeof(float)});
  }
  EXPECT_EQ(to_hex(values.digest()), "b60cd2ff78c336fcabbcbd41b188cbd0");
}

}  // namespace
}  // namespace lapidary
