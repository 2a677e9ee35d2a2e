// A frame unpacks to exactly what was packed, into exactly the size expected, or is refused.
#include "formats/zstd_frames.h"

#include <gtest/gtest.h>

#include <random>

#include "formats/error.h"

namespace lapidary {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes text_like(size_t n) {
  std::mt19937 random(1);
  Bytes bytes(n);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>("abcd efgh"[random() % 9]);
  return bytes;
}

bool is_refused(const Bytes& frame, size_t expected_bytes) {
  Bytes out(expected_bytes);
  try {
    decompress_frame(frame, out);
    return false;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    return true;
  }
}

TEST(ZstdFrames, UnpackToWhatWasPacked) {
  for (const size_t n : {size_t{0}, size_t{1}, size_t{1000}, size_t{300000}}) {
    const Bytes bytes = text_like(n);
    const Bytes frame = compress_frame(bytes);
    Bytes out(n, 0xff);
    decompress_frame(frame, out);
    EXPECT_EQ(out, bytes);
  }
  EXPECT_LT(compress_frame(text_like(300000)).size(), 150000u);
}

TEST(ZstdFrames, AreRefusedWhenTruncatedExtendedOrOfAnotherSize) {
  const Bytes frame = compress_frame(text_like(500));
  for (size_t n = 0; n < frame.size(); ++n)
    EXPECT_TRUE(is_refused({frame.begin(), frame.begin() + static_cast<long>(n)}, 500)) << n;
  EXPECT_TRUE(is_refused(frame, 499));
  EXPECT_TRUE(is_refused(frame, 501));
  Bytes longer = frame;
  longer.push_back(0);
  EXPECT_TRUE(is_refused(longer, 500));
  Bytes twice = frame;
  twice.insert(twice.end(), frame.begin(), frame.end());
  EXPECT_TRUE(is_refused(twice, 500));
  EXPECT_TRUE(is_refused(twice, 1000));
  EXPECT_TRUE(is_refused(text_like(500), 500));
}

}  // namespace
}  // namespace lapidary
