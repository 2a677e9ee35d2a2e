// TensorBoard's event files, written by hand: TFRecords of protobuf messages.
//
// A record is: length u64, masked CRC-32C of the length, message, masked CRC-32C of the message,
// all little-endian. A message is an Event: wall_time (field 1, double), step (2, varint), and
// either file_version (3) or summary (5), whose values are {tag (1), simple_value (2, float)}.
// Sources: tensorflow/core/lib/io/record_writer.h, util/event.proto, framework/summary.proto.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lapidary {

// Castagnoli's polynomial, reflected; of no bytes: 0.
uint32_t crc32c(std::span<const uint8_t> bytes);

// The record every event file begins with.
std::string event_file_header(double wall_seconds);
// One record with named numbers of one step.
std::string scalar_event(double wall_seconds, int64_t step,
                         std::span<const std::pair<std::string_view, double>> values);

}  // namespace lapidary
