// A conversation must give what a fresh computation of the same prompt gives, however much of the
// cache it reuses.
#include "runtime/chat_session.h"

#include <gtest/gtest.h>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

class ChatSessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path = folder_.file("m.lap");
    convert(*HfSource::open(data_path("nano-e")), path, {});
    model_ = Model::load(path);
    engine_ = std::make_unique<Engine>(model_, EngineOptions{});
    options_.generate.max_tokens = 12;
    options_.generate.sampling.greedy = true;
    options_.generate.stop_ids = model_->config().eos_ids;
  }
  GenerateResult from_scratch(std::span<const int32_t> prompt) {
    const auto sequence = engine_->new_sequence(options_.context, options_.kv);
    return generate(*engine_, *sequence, prompt, options_.generate);
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Engine> engine_;
  ChatOptions options_;
};

TEST_F(ChatSessionTest, LaterTurnsReuseTheCacheAndChangeNothing) {
  ChatSession session(*engine_, options_);
  const ChatReply first = session.say("Name the capital city of Norway.", nullptr, {});
  EXPECT_EQ(first.reused, 0);
  EXPECT_EQ(first.text, "Oslo");
  for (const char* message : {"And of Sweden?", "Reverse the order of these words: lemon tiger"}) {
    const ChatReply reply = session.say(message, nullptr, {});
    EXPECT_GT(reply.reused, 10);
    EXPECT_LT(reply.reused, static_cast<int64_t>(reply.prompt.size()));
    EXPECT_EQ(reply.result.tokens, from_scratch(reply.prompt).tokens);
  }
}

TEST_F(ChatSessionTest, PiecesJoinToTheText) {
  ChatSession session(*engine_, options_);
  std::string joined;
  const ChatReply reply = session.say("Reverse the order of these words: bridge island harbor",
                                      [&](std::string_view piece) { joined += piece; }, {});
  EXPECT_EQ(joined, reply.text);
  EXPECT_EQ(reply.text, "harbor island bridge");
  EXPECT_EQ(reply.result.finish_reason, "stop");
}

TEST_F(ChatSessionTest, AFullContextIsSaidPlainly) {
  options_.context = 8;
  ChatSession session(*engine_, options_);
  EXPECT_THROW(session.say("This message needs more tokens than fit.", nullptr, {}), Error);
}

}  // namespace
}  // namespace lapidary
