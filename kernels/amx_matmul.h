// y = W x with int8 activations in AMX tiles: one algorithm over a type `Tiles` of tile registers
// (the hardware's in amx_matmul_int8.cpp, a model of them in amx_tiles.h) and a type `Lines` that
// unpacks lines and joins finished sums to floats (AVX-512's in amx_lines.h, a scalar one in the
// tests).
//
// This has been tested through the model only: on no machine with AMX has it run, nor been timed.
//
// A packed tile of 16 rows x 64 k, unpacked, is one B register; 16 tokens x 64 k are one A
// register; TDPBSSD adds their product to a C register of 16 tokens x 16 rows. Two A and two B
// registers make four products of four loads. Whole scale blocks are added up in C, so the integers
// are exact and the floats join in the order of kernels.h: the reference's bits.
//
// Inputs go by slices of 512, the widest scale block: the slice of up to 128 tokens is
// copied into 1 KiB tiles once per call (rows 2 KiB apart would fight for the same cache sets),
// that of two panels is unpacked once for all these tokens. Scratch is 84 KiB on the stack, as
// kernels allocate nothing: A stays in L2, B and C in L1.
#pragma once

#include "kernels/amx_tiles.h"
#include "kernels/kernels.h"
#include "kernels/panel.h"

namespace lapidary::amx {
namespace {  // each file its own: its functions must not be shared between instruction sets

constexpr int kTokensPerTile = kRegisterRows;
constexpr int kTilesAtOnce = 2;  // registers 0-3 are C, 4 and 5 are A, 6 and 7 are B
constexpr int64_t kTokensTogether = 128;
constexpr int64_t kSliceK = 512;  // the widest scale block
constexpr int kSliceTiles = kSliceK / kTileK;
constexpr int kTileBytes = kRegisterRows * kRegisterBytes;

struct Task {
  const MatrixView& w;
  PackedGeometry g;
  Int8Activations x;
  float* y;
  int64_t ldy;
};

struct Scratch {
  alignas(64) int8_t a[kTokensTogether / kTokensPerTile][kSliceTiles][kTileBytes];
  alignas(64) int8_t b[kTilesAtOnce][kSliceTiles][kTileBytes];
  alignas(64) int32_t c[kTilesAtOnce][kTilesAtOnce][kTokensPerTile][kPanelRows];
};

// Tokens beyond the last are zero up to a whole pair of tiles.
inline void copy_inputs(const Task& task, int64_t token, int64_t n_tokens, int64_t k0, int n_tiles,
                        Scratch& scratch) {
  constexpr int kPair = kTilesAtOnce * kTokensPerTile;
  const int64_t n_padded = (n_tokens + kPair - 1) / kPair * kPair;
  for (int64_t t = 0; t < n_padded; ++t)
    for (int tile = 0; tile < n_tiles; ++tile) {
      int8_t* row = scratch.a[t / kTokensPerTile][tile] + t % kTokensPerTile * kRegisterBytes;
      if (t < n_tokens)
        std::memcpy(row, task.x.q + (token + t) * task.x.padded_k + k0 + tile * kTileK, kTileK);
      else
        std::memset(row, 0, kTileK);
    }
}

// C = A B over tiles first .. end - 1 of the slice, stored to scratch.c.
template <class Tiles>
inline void multiply_tiles(Tiles& tiles, int64_t token_tile, int first, int end, Scratch& scratch) {
  tiles.template zero<0>();
  tiles.template zero<1>();
  tiles.template zero<2>();
  tiles.template zero<3>();
  for (int tile = first; tile < end; ++tile) {
    tiles.template load<6>(scratch.b[0][tile], kRegisterBytes);
    tiles.template load<4>(scratch.a[token_tile][tile], kRegisterBytes);
    tiles.template multiply_add<0, 4, 6>();
    tiles.template load<7>(scratch.b[1][tile], kRegisterBytes);
    tiles.template multiply_add<1, 4, 7>();
    tiles.template load<5>(scratch.a[token_tile + 1][tile], kRegisterBytes);
    tiles.template multiply_add<2, 5, 6>();
    tiles.template multiply_add<3, 5, 7>();
  }
  tiles.template store<0>(scratch.c[0][0], kPanelRows * sizeof(int32_t));
  tiles.template store<1>(scratch.c[0][1], kPanelRows * sizeof(int32_t));
  tiles.template store<2>(scratch.c[1][0], kPanelRows * sizeof(int32_t));
  tiles.template store<3>(scratch.c[1][1], kPanelRows * sizeof(int32_t));
}

// One slice of up to 128 tokens and all panels of the call.
template <class Tiles, class Lines, Code C>
inline void multiply_slice(Tiles& tiles, const Task& task, int64_t first_panel, int64_t n_panels,
                           int64_t token, int64_t n_tokens, int64_t k0, Scratch& scratch) {
  const int64_t rest_k = task.g.padded_k - k0;
  const int n_tiles = static_cast<int>((rest_k < kSliceK ? rest_k : kSliceK) / kTileK);
  const int block_tiles = traits(C).scale_k / kTileK;
  const int64_t last_panel = first_panel + n_panels - 1;
  copy_inputs(task, token, n_tokens, k0, n_tiles, scratch);
  for (int64_t pair = first_panel; pair <= last_panel; pair += kTilesAtOnce) {
    PanelParts parts[kTilesAtOnce];
    for (int i = 0; i < kTilesAtOnce; ++i) {  // an odd last panel is multiplied twice, used once
      parts[i] = panel_parts(task.w, task.g, pair + i < last_panel ? pair + i : last_panel);
      for (int tile = 0; tile < n_tiles; ++tile)
        Lines::template unpack<C>(task.g, parts[i], k0 / kTileK + tile, scratch.b[i][tile]);
    }
    for (int64_t t0 = 0; t0 < n_tokens; t0 += kTilesAtOnce * kTokensPerTile)
      for (int first = 0; first < n_tiles; first += block_tiles) {
        const int end = first + block_tiles < n_tiles ? first + block_tiles : n_tiles;
        multiply_tiles(tiles, t0 / kTokensPerTile, first, end, scratch);
        const int64_t block = (k0 / kTileK + first) / block_tiles;
        for (int i = 0; i < kTilesAtOnce && pair + i <= last_panel; ++i) {
          const auto w_scales = Lines::scales(task.w, parts[i], block);
          const int64_t n_rows = task.w.rows - (pair + i) * kPanelRows;
          for (int64_t t = t0; t < n_tokens && t < t0 + kTilesAtOnce * kTokensPerTile; ++t)
            Lines::join(scratch.c[(t - t0) / kTokensPerTile][i][(t - t0) % kTokensPerTile],
                        w_scales, task.x.scales[(token + t) * task.g.n_scale_blocks + block],
                        k0 + first == 0, n_rows,
                        task.y + (token + t) * task.ldy + (pair + i) * kPanelRows);
        }
      }
  }
}

template <class Tiles, class Lines, Code C>
inline void multiply(const Task& task, int64_t first_panel, int64_t n_panels, int64_t n_tokens) {
  Tiles tiles(whole_tiles());
  Scratch scratch;
  for (int64_t token = 0; token < n_tokens; token += kTokensTogether) {
    const int64_t rest = n_tokens - token;
    const int64_t n_here = rest < kTokensTogether ? rest : kTokensTogether;
    for (int64_t k0 = 0; k0 < task.g.padded_k; k0 += kSliceK)
      multiply_slice<Tiles, Lines, C>(tiles, task, first_panel, n_panels, token, n_here, k0,
                                      scratch);
  }
}

// kernels.h, matmul_int8. Returns false, having done nothing, for codes with a scale per 32 inputs:
// each scale would end a sum after half a tile, which costs more than the tiles save.
template <class Tiles, class Lines>
inline bool matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                        const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) {
  if (traits(w.code).is_float || traits(w.code).scale_k < kTileK) return false;
  const Task task{w, packed_geometry(w.code, w.rows, w.k), x, y, ldy};
  switch (w.code) {
    case Code::kW8:
      multiply<Tiles, Lines, Code::kW8>(task, first_panel, n_panels, n_tokens);
      return true;
    case Code::kW6:
      multiply<Tiles, Lines, Code::kW6>(task, first_panel, n_panels, n_tokens);
      return true;
    case Code::kW5:
      multiply<Tiles, Lines, Code::kW5>(task, first_panel, n_panels, n_tokens);
      return true;
    case Code::kW4:
      multiply<Tiles, Lines, Code::kW4>(task, first_panel, n_panels, n_tokens);
      return true;
    case Code::kW3:
      multiply<Tiles, Lines, Code::kW3>(task, first_panel, n_panels, n_tokens);
      return true;
    case Code::kT3:
      multiply<Tiles, Lines, Code::kT3>(task, first_panel, n_panels, n_tokens);
      return true;
    case Code::kT4:
      multiply<Tiles, Lines, Code::kT4>(task, first_panel, n_panels, n_tokens);
      return true;
    case Code::kT5:
      multiply<Tiles, Lines, Code::kT5>(task, first_panel, n_panels, n_tokens);
      return true;
    case Code::kT6:
      multiply<Tiles, Lines, Code::kT6>(task, first_panel, n_panels, n_tokens);
      return true;
    default:
      return false;
  }
}

}  // namespace
}  // namespace lapidary::amx
