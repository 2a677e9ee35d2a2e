// Gradient statistics: what is written reads back, what is no statistic is refused.
#include "formats/fisher.h"

#include <filesystem>
#include <limits>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/safetensors.h"
#include "tests/formats/error_of.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

FisherStatistics small() {
  return {"0123456789abcdef0123456789abcdef",
          "",
          7,
          {{"a.weight", {1, 0, 2}, {3, 0}}, {"b.weight", {4}, {1, 1, 2}}}};
}

template <class F>
std::string message_of(F&& f) {
  return error_of(std::forward<F>(f)).what();
}

TEST(Fisher, ReadsBackWhatItWrites) {
  const TemporaryFolder folder;
  write_fisher(folder.file("f"), small());
  const FisherStatistics back = read_fisher(folder.file("f"));
  EXPECT_EQ(back.model_hash, small().model_hash);
  EXPECT_EQ(back.source_hash, "");
  EXPECT_EQ(back.tokens, 7);
  ASSERT_EQ(back.tensors.size(), 2u);
  EXPECT_EQ(back.find("b.weight")->columns, (std::vector<float>{1, 1, 2}));
  EXPECT_EQ(back.find("a.weight")->rows, (std::vector<float>{1, 0, 2}));
  EXPECT_EQ(back.find("a"), nullptr);
}

// Every truncation of a file is refused with one line, never read.
TEST(Fisher, RefusesTruncationAtEveryByte) {
  const TemporaryFolder folder;
  write_fisher(folder.file("f"), small());
  const std::string whole = read_text(folder.file("f"));
  for (size_t n = 0; n < whole.size(); ++n) {
    write_text_atomically(folder.file("cut"), whole.substr(0, n));
    EXPECT_THROW(read_fisher(folder.file("cut")), Error) << n;
  }
}

TEST(Fisher, RefusesWhatIsNoSumOfSquares) {
  const TemporaryFolder folder;
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {-1.0f, infinity, std::numeric_limits<float>::quiet_NaN()}) {
    FisherStatistics statistics = small();
    statistics.tensors[1].columns[2] = bad;
    write_fisher(folder.file("f"), statistics);
    EXPECT_NE(message_of([&] { read_fisher(folder.file("f")); }).find("b.weight.columns"),
              std::string::npos);
  }
  FisherStatistics none = small();
  none.tokens = 0;
  write_fisher(folder.file("f"), none);
  EXPECT_NE(message_of([&] { read_fisher(folder.file("f")); }).find("tokens"), std::string::npos);
}

TEST(Fisher, RefusesOtherFilesAndLoneVectors) {
  const TemporaryFolder folder;
  const std::vector<uint8_t> bytes(8);
  const auto error_for = [&](const std::string& name, DType type, std::vector<int64_t> shape,
                             const std::string& format) {
    write_safetensors(folder.file("f"), {{name, type, std::move(shape), bytes}},
                      {{"format", format}, {"model", "x"}, {"tokens", "1"}});
    return message_of([&] { read_fisher(folder.file("f")); });
  };
  const std::string ours = "lapidary-fisher-1";
  EXPECT_NE(error_for("a.rows", DType::kF32, {2}, "pt").find("finetune --fisher"),
            std::string::npos);
  EXPECT_NE(error_for("a.rows", DType::kF32, {2}, ours).find("no columns"), std::string::npos);
  EXPECT_NE(error_for("a.columns", DType::kF32, {2}, ours).find("without rows"), std::string::npos);
  EXPECT_NE(error_for("a", DType::kF32, {2}, ours).find("ends neither"), std::string::npos);
  EXPECT_NE(error_for("a.rows", DType::kF32, {1, 2}, ours).find("no vector"), std::string::npos);
  EXPECT_NE(error_for("a.rows", DType::kF16, {4}, ours).find("no vector"), std::string::npos);
}

}  // namespace
}  // namespace lapidary
