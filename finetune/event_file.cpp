// Protobuf by hand: a tag byte is field number * 8 + wire type.
#include "finetune/event_file.h"

#include <array>
#include <bit>
#include <cstring>

namespace lapidary {
namespace {

constexpr int kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;  // wire types

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ (c & 1 ? 0x82F63B78u : 0);
    table[i] = c;
  }
  return table;
}

template <class T>
void put_raw(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);  // little-endian machines only, as everywhere here
  out.append(bytes, sizeof value);
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void put_tag(std::string& out, int field, int wire_type) {
  out += static_cast<char>(field * 8 + wire_type);
}

void put_bytes(std::string& out, int field, std::string_view bytes) {
  put_tag(out, field, kBytes);
  put_varint(out, bytes.size());
  out += bytes;
}

std::string event(double wall_seconds, int64_t step) {
  std::string out;
  put_tag(out, 1, kFixed64);
  put_raw(out, wall_seconds);
  put_tag(out, 2, kVarint);
  put_varint(out, static_cast<uint64_t>(step));
  return out;
}

// TFRecord's CRC is rotated and shifted, so that a CRC of data with CRCs in it is no trouble.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  return std::rotr(crc, 15) + 0xA282EAD8u;
}

std::string record(std::string_view message) {
  std::string length, out;
  put_raw(length, static_cast<uint64_t>(message.size()));
  out = length;
  put_raw(out, masked_crc(length));
  out += message;
  put_raw(out, masked_crc(message));
  return out;
}

}  // namespace

uint32_t crc32c(std::span<const uint8_t> bytes) {
  static constexpr std::array<uint32_t, 256> kTable = make_table();
  uint32_t crc = ~0u;
  for (const uint8_t byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ byte) & 255];
  return ~crc;
}

std::string event_file_header(double wall_seconds) {
  std::string message = event(wall_seconds, 0);
  put_bytes(message, 3, "brain.Event:2");
  return record(message);
}

std::string scalar_event(double wall_seconds, int64_t step,
                         std::span<const std::pair<std::string_view, double>> values) {
  std::string summary;
  for (const auto& [tag, number] : values) {
    std::string value;
    put_bytes(value, 1, tag);
    put_tag(value, 2, kFixed32);
    put_raw(value, static_cast<float>(number));
    put_bytes(summary, 1, value);
  }
  std::string message = event(wall_seconds, step);
  put_bytes(message, 5, summary);
  return record(message);
}

}  // namespace lapidary
