// Sessions on disk: they go on bit by bit where they stopped, and nothing damaged, cut or foreign
// is taken.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "formats/error.h"
#include "runtime/chat_session.h"
#include "tests/runtime/fixtures.h"
#include "tests/runtime/session_fixture.h"

namespace lapidary {
namespace {

std::string contents(const std::string& path) { return read_text(path); }

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// Opens and restores into a fresh sequence.
std::vector<int32_t> restore(const std::string& path, Sequence& sequence) {
  return SessionFile(path).restore(session_config(), session_state().model, "", sequence);
}

template <class F>
std::string refusal(ErrorCode code, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    return e.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

class Session : public testing::Test {
 protected:
  void SetUp() override {
    const auto sequence = session_sequence();
    fill_session(*sequence);
    save_session(path_, session_config(), *sequence, session_state());
  }
  TemporaryFolder folder_;
  std::string path_ = folder_.file("s.session");
};

TEST_F(Session, ComesBackInSequencesOfOtherSizes) {
  const auto original = session_sequence();
  fill_session(*original);
  const auto want = original->held_pieces(kSessionTokens);
  for (const auto& [capacity, batch] : {std::pair{200, 8}, std::pair{70, 64}, std::pair{9999, 1}}) {
    const auto sequence = session_sequence(capacity, batch);
    EXPECT_EQ(restore(path_, *sequence), session_state().tokens);
    EXPECT_EQ(sequence->length(), kSessionTokens);
    const auto got = sequence->held_pieces(kSessionTokens);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_TRUE(std::equal(got[i].begin(), got[i].end(), want[i].begin(), want[i].end())) << i;
    EXPECT_EQ(sequence->earliest_rollback(), kSessionTokens - 64);
  }
}

TEST_F(Session, IsWrittenAsVersion1Was) {
  EXPECT_EQ(contents(path_), contents(data_path("session/v1.session")));
}

TEST_F(Session, RefusesEveryTruncationAndExtraBytes) {
  const std::string bytes = contents(path_);
  const std::string cut = folder_.file("cut.session");
  for (size_t n = 0; n < bytes.size(); n += n < 400 ? 1 : 13) {
    write(cut, bytes.substr(0, n));
    refusal(ErrorCode::kBadData, [&] { restore(cut, *session_sequence()); });
  }
  write(cut, bytes + '\0');
  refusal(ErrorCode::kBadData, [&] { restore(cut, *session_sequence()); });
}

TEST_F(Session, RefusesEveryFlippedBit) {
  const std::string bytes = contents(path_);
  const std::string flipped = folder_.file("flipped.session");
  const auto sequence = session_sequence();
  for (size_t bit = 0; bit < 8 * bytes.size(); bit += bit < 8 * 64 ? 1 : 61) {
    std::string other = bytes;
    other[bit / 8] = char(other[bit / 8] ^ 1 << bit % 8);
    write(flipped, other);
    refusal(ErrorCode::kBadData, [&] { restore(flipped, *sequence); });
    ASSERT_EQ(sequence->length(), 0);
  }
}

TEST_F(Session, RefusesForeignModelsAdaptersCachesAndShortContexts) {
  const SessionFile file(path_);
  const auto attempt = [&](const std::string& model, const std::string& adapter,
                           std::unique_ptr<Sequence> sequence) {
    return refusal(ErrorCode::kUsage,
                   [&] { file.restore(session_config(), model, adapter, *sequence); });
  };
  const std::string own = session_state().model;
  EXPECT_NE(attempt("other", "", session_sequence()).find("another model"), std::string::npos);
  EXPECT_NE(attempt(own, "x", session_sequence()).find("adapter"), std::string::npos);
  EXPECT_NE(attempt(own, "", session_sequence(69)).find("70 tokens"), std::string::npos);
  const auto with = [](KvOptions kv) {
    return std::make_unique<Sequence>(session_config(), 200, kv, 8);
  };
  EXPECT_NE(attempt(own, "", with({})).find("KV cache"), std::string::npos);
  attempt(own, "", with(*parse_kv({"k4v4", "", "", "", false})));
  attempt(own, "", with(*parse_kv({"k4v3", "0,0", "", "", false})));
}

TEST(SessionOfAModel, GoesOnWithTheSameBits) {
  for (const auto& [checkpoint, kv] :
       {std::pair{"nano-e", KvOptions()}, std::pair{"nano-e", KvOptions(KvCode::kF32)},
        std::pair{"nano-e", *parse_kv({"k4v4", "64,64", "k8v8", "", false})},
        std::pair{"tiny-gemma3", *parse_kv({"k8v3", "0,0", "k8v8", "", false})}}) {
    const auto model = converted_model(checkpoint);
    const ModelConfig& config = model->config();
    std::vector<int32_t> ids;
    for (int i = 0; i < 330; ++i) ids.push_back(3 + i * 37 % (config.vocab_size - 3));
    Engine engine(model, {2, 128, 128, ActivationType::kInt8});
    const std::vector<float> want = logits_of(engine, ids, kv);
    for (const int64_t length : {40, 255, 256, 300}) {
      TemporaryFolder folder;
      const auto first = engine.new_sequence(400, kv);
      for (int64_t done = 0; done < length; done += 100) {
        const auto n = std::min<int64_t>(100, length - done);
        const BatchItem item{first.get(), std::span(ids).subspan(size_t(done), size_t(n)), n};
        engine.step({&item, 1});
      }
      const std::string hash = model->file().content_hash();
      save_session(folder.file("s"), config, *first,
                   {hash, "", {ids.begin(), ids.begin() + length}, {}, "[]"});
      Engine small(model, {1, 30, 30, ActivationType::kInt8});
      const auto second = small.new_sequence(330, kv);
      SessionFile(folder.file("s")).restore(config, hash, "", *second);
      const int64_t from = std::max<int64_t>(0, length - 64);
      second->truncate(from);  // as far back as any sequence goes
      for (int64_t done = from; done < 330; done += 30) {
        const auto n = std::min<int64_t>(30, 330 - done);
        const BatchItem item{second.get(), std::span(ids).subspan(size_t(done), size_t(n)), 0};
        const auto logits = small.step({&item, 1});
        ASSERT_EQ(std::memcmp(logits.data(), &want[size_t(done) * size_t(config.vocab_size)],
                              logits.size_bytes()),
                  0)
            << checkpoint << " " << describe(kv) << ": stopped at " << length << ", at " << done;
      }
    }
  }
}

TEST(SessionOfAChat, RemembersWhatWasSaid) {
  Engine engine(converted_model("nano-e"), EngineOptions{.n_threads = 2});
  ChatOptions options;
  options.kv = parse_kv_code("k4v4");
  options.generate.sampling.greedy = true;
  options.generate.max_tokens = 20;
  options.generate.stop_ids = engine.model().config().eos_ids;
  TemporaryFolder folder;
  ChatSession whole(engine, options);
  whole.say("Name the capital city of Norway.", {}, {});
  whole.save(folder.file("s"), "");
  const ChatReply want = whole.say("And of Sweden?", {}, {});
  ChatSession resumed(engine, options);
  resumed.load(SessionFile(folder.file("s")), "");
  const ChatReply got = resumed.say("And of Sweden?", {}, {});
  EXPECT_EQ(got.text, want.text);
  EXPECT_EQ(got.prompt, want.prompt);
  EXPECT_EQ(got.reused, want.reused);
  EXPECT_GT(got.reused, 10);
}

}  // namespace
}  // namespace lapidary
