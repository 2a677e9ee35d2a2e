// Sources: weights, held-out examples, doubles and leaks, packed files, data beyond memory.
#include "finetune/data_set.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <fstream>

#include "formats/error.h"
#include "tests/finetune/fixtures.h"

namespace lapidary {
namespace {

class DataSet : public testing::Test {
 protected:
  DataSet() {
    events_.on_note = [this](const std::string& note) { notes_ += note + "\n"; };
  }

  static std::string line(int i) {
    return R"({"prompt": "Number )" + std::to_string(i) + R"(?", "completion": "It is )" +
           std::to_string(i) + "\"}\n";
  }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.file(name), std::ios::binary) << text;
    return folder_.file(name);
  }
  std::string lines(const std::string& name, int first, int end) const {
    std::string text;
    for (int i = first; i < end; ++i) text += line(i);
    return write(name, text);
  }
  ExampleLoader loader() { return ExampleLoader(maker_, folder_.path(), events_); }

  TemporaryFolder folder_;
  std::shared_ptr<const Model> model_ = load_converted(data_path("nano-e"));
  ModelMetadata metadata_ = model_->file().metadata();
  ExampleMaker maker_{model_->tokenizer(), metadata_, {.context = 64}};
  Events events_;
  std::string notes_;
};

TEST_F(DataSet, ReadsFilesWithWeights) {
  EXPECT_EQ(parse_general("a.jsonl").weight, 1);
  EXPECT_EQ(parse_general("a.jsonl=0.25").path, "a.jsonl");
  EXPECT_EQ(parse_general("a.jsonl=0.25").weight, 0.25);
  EXPECT_EQ(parse_general("a=b.jsonl").path, "a=b.jsonl");
  for (const char* wrong : {"a.jsonl=0", "a.jsonl=-1", "a.jsonl=inf", "=1"})
    EXPECT_THROW(parse_general(wrong), Error) << wrong;
}

TEST_F(DataSet, ReportsDoubles) {
  const auto path = write("d.jsonl", line(1) + line(2) + line(1) + line(1));
  const LoadedSource source = loader().load(path);
  EXPECT_EQ(source.examples.size(), 4);
  EXPECT_EQ(source.summary.n_duplicates, 2);
  EXPECT_NE(notes_.find("2 of 4 examples are duplicates"), std::string::npos) << notes_;
}

TEST_F(DataSet, ReportsWhatTheEvaluationSharesWithTraining) {
  ExampleLoader reads = loader();
  reads.load(lines("d.jsonl", 0, 10));
  const auto held =
      write("held.jsonl", line(3) + line(20) + R"({"prompt": "Number 4?", "completion": "Four"})");
  EXPECT_EQ(reads.load_held_out(held).size(), 3u);
  EXPECT_NE(notes_.find("1 of 3 held-out examples are in the training data, 1 more share their"),
            std::string::npos)
      << notes_;
  notes_.clear();
  reads.load_held_out(lines("clean.jsonl", 30, 40));
  EXPECT_EQ(notes_.find("held-out"), std::string::npos) << notes_;
}

TEST_F(DataSet, HoldsOutEveryNthAndNeverWhatComesTwice) {
  std::vector<Example> held_out;
  const auto path = lines("d.jsonl", 0, 20);
  EXPECT_EQ(loader().load(path, 5, &held_out).examples.size(), 16);
  EXPECT_EQ(held_out.size(), 4u);
  held_out.clear();
  std::string text;
  for (int i = 0; i < 21; ++i) text += line(i);
  // 4, 9, 14 and 19 are held out, then come again; 3, 8, 13 and 18 were learned when their turn
  // came.
  EXPECT_EQ(loader().load(write("twice.jsonl", text + text), 5, &held_out).examples.size(), 38);
  EXPECT_EQ(held_out.size(), 0u);
}

TEST_F(DataSet, ReadsPackedFilesAsPlainOnes) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += line(i);
  std::string packed;
  const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(),
                                                                   ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);  // as the zstd program does
  for (const std::string_view part : {std::string_view(text).substr(0, 50000),
                                      std::string_view(text).substr(50000)}) {  // two frames
    std::string frame(ZSTD_compressBound(part.size()), '\0');
    frame.resize(
        ZSTD_compress2(context.get(), frame.data(), frame.size(), part.data(), part.size()));
    packed += frame;
  }
  const LoadedSource plain = loader().load(write("d.jsonl", text));
  const LoadedSource unpacked = loader().load(write("d.jsonl.zst", packed));
  ASSERT_EQ(unpacked.examples.size(), 3000);
  EXPECT_EQ(unpacked.summary.hash, plain.summary.hash);
  EXPECT_EQ(unpacked.examples.read(2999).ids, plain.examples.read(2999).ids);
  for (const size_t cut : {packed.size() - 1, packed.size() / 3}) {
    const auto path = write("cut.zst", packed.substr(0, cut));
    try {
      loader().load(path);
      FAIL() << cut;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadData);
    }
  }
  std::string damaged = packed;
  damaged[packed.size() / 2] ^= 0x55;
  EXPECT_THROW(loader().load(write("damaged.zst", damaged)), Error);
}

TEST_F(DataSet, KeepsExamplesOnDiskBeyondItsMemory) {
  ExampleStore small(folder_.path(), /*memory_bytes=*/1000), large(folder_.path());
  for (int i = 0; i < 300; ++i) {
    Example e;
    for (int t = 0; t < 1 + i % 37; ++t) {
      e.ids.push_back(i * 1000 + t);
      e.labels.push_back((t * 7 + i) % 3 ? e.ids.back() : kNotLearned);
    }
    small.add(e);
    large.add(e);
  }
  EXPECT_TRUE(small.on_disk());
  EXPECT_FALSE(large.on_disk());
  for (const int64_t i : {299, 0, 150, 37, 298}) {
    EXPECT_EQ(small.read(i).ids, large.read(i).ids);
    EXPECT_EQ(small.read(i).labels, large.read(i).labels);
    EXPECT_EQ(small.read(i).ids.front(), i * 1000);
  }
}

TEST_F(DataSet, SaysWhereItCannotKeepThem) {
  ExampleStore store(folder_.file("not-there"), 10);
  try {
    store.add({std::vector<int32_t>(100, 1), std::vector<int32_t>(100, 1)});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kIo);
  }
}

}  // namespace
}  // namespace lapidary
