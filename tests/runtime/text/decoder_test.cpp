// Decoding, whole and streamed.
#include <gtest/gtest.h>

#include <random>

#include "runtime/text/tokenizer.h"
#include "tests/runtime/text/tokenizer_fixture.h"

namespace lapidary {
namespace {

int32_t byte_id(int byte) {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", byte);
  return nano_tokenizer().id_of(name).value();
}

TEST(Decode, JoinsByteTokensToCharacters) {
  EXPECT_EQ(nano_tokenizer().decode(Ids{byte_id(0xC3), byte_id(0xA9)}), "é");
}

TEST(Decode, SpoilsAWholeRunForOneBadByte) {
  // As ByteFallback in `tokenizers`: one U+FFFD for each byte of the run.
  EXPECT_EQ(nano_tokenizer().decode(Ids{byte_id(0xC3), byte_id(0xA9), byte_id(0xFF)}),
            "\uFFFD\uFFFD\uFFFD");
}

TEST(Decode, LeavesOutSpecialTokensOnRequest) {
  const Ids ids = {2, 5, 349, 6};
  EXPECT_EQ(nano_tokenizer().decode(ids, true), nano_tokenizer().decode(Ids{349}));
  EXPECT_TRUE(nano_tokenizer().decode(ids).starts_with("<bos><|turn>"));
}

TEST(Decode, IgnoresIdsThatNoTokenHas) {
  EXPECT_EQ(nano_tokenizer().decode(Ids{-5, 349, 1 << 29}), nano_tokenizer().decode(Ids{349}));
}

TEST(StreamDecoder, HoldsBackAnUnfinishedCharacter) {
  StreamDecoder stream(nano_tokenizer(), false);
  for (const int byte : {0xF0, 0x9F, 0x99, 0x82}) EXPECT_EQ(stream.push(byte_id(byte)), "");
  EXPECT_EQ(stream.push(349), "🙂" + nano_tokenizer().decode(Ids{349}));
  EXPECT_EQ(stream.finish(), "");
}

TEST(StreamDecoder, AddsUpToDecode) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    Ids ids(1 + random() % 30);
    for (int32_t& id : ids)
      id = random() % 3 == 0 ? byte_id(static_cast<int>(random() % 256))
                             : static_cast<int32_t>(random() % kNanoVocab);
    for (const bool skip : {false, true}) {
      StreamDecoder stream(nano_tokenizer(), skip);
      std::string text;
      for (const int32_t id : ids) text += stream.push(id);
      EXPECT_EQ(text + stream.finish(), nano_tokenizer().decode(ids, skip));
    }
  }
}

}  // namespace
}  // namespace lapidary
