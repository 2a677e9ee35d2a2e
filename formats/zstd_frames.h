// One zstd frame in, one out, with a size that is known beforehand and checked.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lapidary {

std::vector<uint8_t> compress_frame(std::span<const uint8_t> bytes);
// Fills `out` exactly. Throws kBadData when `frame` is damaged, is not one single frame, or unpacks
// to another size. Needs no memory beyond zstd's window.
void decompress_frame(std::span<const uint8_t> frame, std::span<uint8_t> out);

}  // namespace lapidary
