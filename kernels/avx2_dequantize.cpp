// Packed tiles and rows back to floats. Exact: a weight is a 16-bit float times an integer of at
// most 7 bits, and the products on the way (scale * multiplier, then * level) fit a float32 as
// well.
#include "kernels/avx2.h"
#include "kernels/avx2_decode.h"
#include "kernels/avx2_rotation.h"

namespace lapidary::avx2 {
namespace {

// factors[group half][row]: scale * multiplier of the two groups of a tile.
void load_factors(const MatrixView& w, const PanelParts& parts, int64_t tile, int scale_k,
                  int largest, float factors[2][kPanelRows]) {
  const __m256i both =
      parts.magnitudes != nullptr ? load_multipliers(parts, tile, largest) : _mm256_set1_epi8(1);
  for (int half = 0; half < 2; ++half) {
    const int64_t block = (2 * tile + half) * kGroupK / scale_k;
    const __m128i multipliers =
        half == 0 ? _mm256_castsi256_si128(both) : _mm256_extracti128_si256(both, 1);
    const __m256 low = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(multipliers));
    const __m256 high = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(multipliers, 8)));
    _mm256_storeu_ps(factors[half], _mm256_mul_ps(load_scales(parts, w.scale_type, block, 0), low));
    _mm256_storeu_ps(factors[half] + 8,
                     _mm256_mul_ps(load_scales(parts, w.scale_type, block, 8), high));
  }
}

template <Code C>
void expand(const uint8_t* tile, const float factors[2][kPanelRows], float* out, int64_t stride) {
  alignas(32) int8_t lines[kTileLines * kLineBytes];
  decode_levels<C>(tile, lines);
  // Two neighbouring lines interleaved by 32 bits give 8 consecutive k of each row.
  for (int line = 0; line < kTileLines; line += 2) {
    const float* factor = factors[line / (kTileLines / 2)];
    for (int row = 0; row < kPanelRows; row += 4) {
      const int8_t* p = lines + kLineBytes * line + 4 * row;
      const __m128i even = _mm_load_si128(reinterpret_cast<const __m128i*>(p));
      const __m128i odd = _mm_load_si128(reinterpret_cast<const __m128i*>(p + kLineBytes));
      const __m128i pairs[2] = {_mm_unpacklo_epi32(even, odd), _mm_unpackhi_epi32(even, odd)};
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const __m128i bytes = j % 2 ? _mm_srli_si128(pairs[j / 2], 8) : pairs[j / 2];
        const __m256 levels = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
        _mm256_storeu_ps(out + (row + j) * stride + 4 * line,
                         _mm256_mul_ps(levels, _mm256_broadcast_ss(factor + row + j)));
      }
    }
  }
}

template <class T>
void copy_row(const T* row, int64_t k, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) _mm256_storeu_ps(out + i, load8(row + i));
  if (i < k) store_partial(out + i, k - i, load_partial(row + i, k - i));
}

void copy_float_rows(const MatrixView& w, int64_t first, int64_t count, float* out) {
  for (int64_t row = first; row < first + count; ++row, out += w.k) {
    if (w.code == Code::kF32)
      copy_row(reinterpret_cast<const float*>(w.codes) + row * w.k, w.k, out);
    if (w.code == Code::kF16)
      copy_row(reinterpret_cast<const Half*>(w.codes) + row * w.k, w.k, out);
    if (w.code == Code::kBF16)
      copy_row(reinterpret_cast<const Brain*>(w.codes) + row * w.k, w.k, out);
  }
}

}  // namespace

void expand_tile(const MatrixView& w, const PackedGeometry& g, const PanelParts& parts,
                 int64_t tile, float* out, int64_t stride) noexcept {
  const CodeTraits& t = traits(w.code);
  float factors[2][kPanelRows];
  load_factors(w, parts, tile, t.scale_k, t.max_multiplier, factors);
  const uint8_t* bytes = parts.codes + tile * g.tile_bytes;
  switch (w.code) {
    case Code::kW6:
      return expand<Code::kW6>(bytes, factors, out, stride);
    case Code::kW5:
      return expand<Code::kW5>(bytes, factors, out, stride);
    case Code::kW4:
    case Code::kW4x:
      return expand<Code::kW4>(bytes, factors, out, stride);
    case Code::kW3:
      return expand<Code::kW3>(bytes, factors, out, stride);
    case Code::kT3:
      return expand<Code::kT3>(bytes, factors, out, stride);
    case Code::kT4:
      return expand<Code::kT4>(bytes, factors, out, stride);
    case Code::kT5:
      return expand<Code::kT5>(bytes, factors, out, stride);
    case Code::kT6:
      return expand<Code::kT6>(bytes, factors, out, stride);
    default:
      return expand<Code::kW8>(bytes, factors, out, stride);
  }
}

void dequantize_rows(const MatrixView& w, int64_t first, int64_t count, float* out) noexcept {
  if (traits(w.code).is_float) return copy_float_rows(w, first, count, out);
  const PackedGeometry g = packed_geometry(w.code, w.rows, w.k);
  alignas(32) float piece[kPanelRows][kTileK];
  for (int64_t panel = first / kPanelRows; panel * kPanelRows < first + count; ++panel) {
    const PanelParts parts = panel_parts(w, g, panel);
    const int64_t panel_row = panel * kPanelRows;
    const int64_t begin = first > panel_row ? first : panel_row;
    const int64_t end =
        first + count < panel_row + kPanelRows ? first + count : panel_row + kPanelRows;
    for (int64_t tile = 0; tile < g.n_tiles; ++tile) {
      expand_tile(w, g, parts, tile, piece[0], kTileK);
      const int64_t rest = w.k - tile * kTileK;
      for (int64_t row = begin; row < end; ++row) {
        float* block = piece[row - panel_row];
        if (w.rotated) {
          walsh_hadamard_64(block);
          apply_rotation_signs(block);
        }
        std::memcpy(out + (row - first) * w.k + tile * kTileK, block,
                    static_cast<size_t>(rest < kTileK ? rest : kTileK) * sizeof(float));
      }
    }
  }
}

}  // namespace lapidary::avx2
