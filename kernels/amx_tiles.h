// The tile registers of AMX in plain C++: eight of up to 16 rows x 64 bytes, and the few operations
// that kernels/amx_matmul.h needs of them. For tests on machines without AMX; the hardware's own,
// under the same names, are in amx_matmul_int8.cpp.
//
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18 (tile
// configuration) and volume 2 (TILELOADD, TILESTORED, TILEZERO, TDPBSSD).
#pragma once

#include <cstdint>
#include <cstring>

namespace lapidary::amx {

inline constexpr int kTileRegisters = 8, kRegisterRows = 16, kRegisterBytes = 64;

// What LDTILECFG reads: palette 1 is the only one there is.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};  // of registers 0 to 7; the rest is reserved
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// All eight registers whole.
inline constexpr TileConfig whole_tiles() {
  TileConfig config;
  for (int i = 0; i < kTileRegisters; ++i) {
    config.row_bytes[i] = kRegisterBytes;
    config.rows[i] = kRegisterRows;
  }
  return config;
}

namespace {  // each file its own: its functions must not be shared between instruction sets

class ModelTiles {
 public:
  explicit ModelTiles(const TileConfig& config) : config_(config) {}

  template <int kTile>
  void zero() {
    std::memset(registers_[kTile], 0, sizeof registers_[kTile]);
  }
  // Rows lie `stride` bytes apart.
  template <int kTile>
  void load(const void* from, int64_t stride) {
    zero<kTile>();
    for (int row = 0; row < config_.rows[kTile]; ++row)
      std::memcpy(registers_[kTile][row], static_cast<const uint8_t*>(from) + row * stride,
                  config_.row_bytes[kTile]);
  }
  template <int kTile>
  void store(void* to, int64_t stride) const {
    for (int row = 0; row < config_.rows[kTile]; ++row)
      std::memcpy(static_cast<uint8_t*>(to) + row * stride, registers_[kTile][row],
                  config_.row_bytes[kTile]);
  }
  // c[m][n] += sum over k and i of a[m][4k + i] * b[k][4n + i], c in int32, a and b in int8.
  template <int kC, int kA, int kB>
  void multiply_add() {
    for (int m = 0; m < config_.rows[kC]; ++m)
      for (int n = 0; n < config_.row_bytes[kC] / 4; ++n) {
        int32_t sum;
        std::memcpy(&sum, registers_[kC][m] + 4 * n, sizeof sum);
        for (int k = 0; k < config_.row_bytes[kA] / 4; ++k)
          for (int i = 0; i < 4; ++i)
            sum += static_cast<int8_t>(registers_[kA][m][4 * k + i]) *
                   static_cast<int8_t>(registers_[kB][k][4 * n + i]);
        std::memcpy(registers_[kC][m] + 4 * n, &sum, sizeof sum);
      }
  }

 private:
  TileConfig config_;
  uint8_t registers_[kTileRegisters][kRegisterRows][kRegisterBytes] = {};
};

}  // namespace
}  // namespace lapidary::amx
