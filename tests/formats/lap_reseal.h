// Makes the hashes of a damaged .lap fit again, as an attacker would: only then do the checks
// behind the hashes see the damage.
#pragma once

#include <cstring>
#include <vector>

#include "formats/lap_layout.h"

namespace lapidary {

inline constexpr size_t kSectionsOffset = 48;  // in the header; docs/format.md
inline constexpr size_t kSectionBytes = 32;    // offset, bytes, hash

inline void reseal_lap(std::vector<uint8_t>& file) {
  if (file.size() < kLapHeaderBytes) return;
  for (size_t i = 0; i < kSectionCount; ++i) {
    uint8_t* entry = file.data() + kSectionsOffset + i * kSectionBytes;
    uint64_t offset, bytes;
    std::memcpy(&offset, entry, 8);
    std::memcpy(&bytes, entry + 8, 8);
    if (offset > file.size() || bytes > file.size() - offset) continue;
    const Hash128 hash = hash_bytes({file.data() + offset, bytes});
    std::memcpy(entry + 16, &hash.low, 8);
    std::memcpy(entry + 24, &hash.high, 8);
  }
  const Hash128 hash = hash_bytes({file.data(), kLapHeaderBytes - 16});
  std::memcpy(file.data() + kLapHeaderBytes - 16, &hash.low, 8);
  std::memcpy(file.data() + kLapHeaderBytes - 8, &hash.high, 8);
}

}  // namespace lapidary
