// TensorBoard's format: the checksum's published values, and the bytes that its own writer writes.
#include "finetune/event_file.h"

#include <gtest/gtest.h>

#include <string>

namespace lapidary {
namespace {

std::span<const uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// RFC 3720, B.4.
TEST(Crc32c, HasThePublishedValues) {
  EXPECT_EQ(crc32c(bytes("123456789")), 0xE3069283u);
  EXPECT_EQ(crc32c(bytes(std::string(32, '\0'))), 0x8A9136AAu);
  EXPECT_EQ(crc32c(bytes(std::string(32, '\xff'))), 0x62A8AB43u);
  EXPECT_EQ(crc32c({}), 0u);
}

// From tensorboard 2.21.0: RecordWriter().write(Event(wall_time=1.5, step=300, summary=Summary(
// value=[Summary.Value(tag="a/b", simple_value=0.5)])).SerializeToString()).
TEST(EventFile, WritesTheBytesOfTensorBoard) {
  constexpr std::string_view kExpected =
      "1a00000000000000129bd82d09000000000000f83f10ac022a0c0a0a0a03612f62150000003f49db135b";
  const std::pair<std::string_view, double> values[] = {{"a/b", 0.5}};
  std::string hex;
  for (const char c : scalar_event(1.5, 300, values))
    for (const int digit : {static_cast<uint8_t>(c) >> 4, static_cast<uint8_t>(c) & 15})
      hex += "0123456789abcdef"[digit];
  EXPECT_EQ(hex, kExpected);
}

TEST(EventFile, BeginsWithItsVersion) {
  EXPECT_NE(event_file_header(0).find("brain.Event:2"), std::string::npos);
}

}  // namespace
}  // namespace lapidary
