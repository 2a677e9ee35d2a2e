// Conversations that the base makes itself: in a form that is read back, the same for a seed.
#include "finetune/replay.h"

#include <gtest/gtest.h>

#include "finetune/records.h"
#include "formats/file.h"
#include "tests/finetune/fixtures.h"

namespace lapidary {
namespace {

class Replay : public testing::Test {
 protected:
  std::string make(const ReplayOptions& options, const std::string& name) const {
    make_replay(options, load_converted(data_path("nano-e")), folder_.file(name), {});
    return read_text(folder_.file(name));
  }
  TemporaryFolder folder_;
};

TEST_F(Replay, MakesConversationsOfItsOwn) {
  ReplayOptions options;
  options.count = 5;
  options.context = 256;
  options.n_threads = 2;
  const std::string first = make(options, "a.jsonl");
  EXPECT_EQ(make(options, "b.jsonl"), first);
  int64_t n = 0;
  read_records(folder_.file("a.jsonl"), [&](const Record& record) {
    ++n;
    ASSERT_EQ(record.messages.size(), 2u);
    EXPECT_TRUE(record.messages[1].is_answer);
  });
  EXPECT_EQ(n, 5);
}

TEST_F(Replay, AnswersTheUserTurnsOfAFile) {
  write_text_atomically(
      folder_.file("prompts.jsonl"),
      R"({"prompt": "Reverse the order of these words: lemon bridge silver", "completion": "x"})");
  ReplayOptions options;
  options.count = 1;
  options.context = 256;
  options.prompts = folder_.file("prompts.jsonl");
  options.temperature = 0;
  EXPECT_EQ(make(options, "a.jsonl"),
            "{\"messages\":[{\"role\":\"user\",\"content\":\"Reverse the order of these words: "
            "lemon bridge silver\"},{\"role\":\"assistant\",\"content\":\"silver bridge "
            "lemon\"}]}\n");
  write_text_atomically(folder_.file("prompts.jsonl"), "{\"text\": \"no prompt\"}");
  EXPECT_THROW(make(options, "b.jsonl"), Error);
}

}  // namespace
}  // namespace lapidary
