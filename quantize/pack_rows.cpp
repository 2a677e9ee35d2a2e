// The loop over scale blocks: 16 rows are read, rotated, rounded by the kernels and packed while
// they lie in the cache.
#include "quantize/pack_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "formats/error.h"
#include "formats/float_codes.h"
#include "formats/trellis.h"
#include "kernels/kernels.h"
#include "kernels/pack_lines.h"
#include "kernels/reference_rotation.h"
#include "quantize/lattice.h"
#include "quantize/trellis_rows.h"

namespace lapidary {
namespace {

// Sixteen rows of at most one scale block (a whole tile at least), and what becomes of them.
struct Strip {
  alignas(64) float x[kPanelRows * kMostBlockK];        // [16][width]
  alignas(64) uint8_t lines[kPanelRows * kMostBlockK];  // [width / 4][16][4]
  int64_t width = 0;

  void read(const FloatRows& rows, int64_t first_row, int n_rows, int64_t first, int64_t n) {
    for (int r = 0; r < kPanelRows; ++r) {
      const int64_t here = r < n_rows ? n : 0;
      if (here > 0) rows.read(first_row + r, first, here, x + r * width);
      std::fill(x + r * width + here, x + (r + 1) * width, 0.0f);
    }
  }

  // False, and the row made zero, when a weight is too large for the code.
  bool make_fit(Code code) {
    const float limit = largest_weight(code);
    bool fits = true;
    for (int r = 0; r < kPanelRows; ++r) {
      bool row_fits = true;
      for (int64_t i = 0; i < width; ++i) row_fits &= std::fabs(x[r * width + i]) <= limit;
      if (!row_fits) std::fill_n(x + r * width, width, 0.0f);
      fits = fits && row_fits;
    }
    return fits;
  }

  // Rows and inputs that are no weights get the index that pack_panel pads with; but a trellis's
  // symbols reach into their neighbours' weights, and were chosen for that.
  void pad(Code code, int n_rows, int64_t used) {
    if (traits(code).is_trellis) return;
    const uint8_t index = padding_index(code);
    for (int64_t k = used; k < width; ++k)
      for (int r = 0; r < kPanelRows; ++r) lines[line_index(r, k)] = index;
    for (int64_t line = 0; n_rows < kPanelRows && line < width / 4; ++line)
      std::fill_n(lines + line * 64 + n_rows * 4, (kPanelRows - n_rows) * 4, index);
  }
};

void add_rows(const RoundedRows& rounded, int n_rows, RoundingLoss* loss) {
  for (int r = 0; r < n_rows; ++r) {
    loss->error += rounded.errors[r];
    loss->energy += rounded.energies[r];
  }
}

// Kernels keep lattices whose products are exact. Those whose products were rounded to bf16 are
// found here, row by row, until one is none: `tries` is false from then on.
void keep_lattices(Code code, Code stored, const Strip& strip, int64_t block, int n, int n_rows,
                   bool* tries, RoundedRows* rounded) {
  for (int r = 0; *tries && r < n_rows; ++r) {
    if (rounded->errors[r] == 0) continue;
    const std::span<const float> x(strip.x + r * strip.width + block, static_cast<size_t>(n));
    const auto lattice = fit_lattice(code, stored, x);
    *tries = lattice.has_value();
    if (!lattice) return;
    const float scale = scale_to_float(ScaleType::kF16, lattice->scale);
    rounded->scales[r] = lattice->scale;
    rounded->errors[r] = 0;
    for (int i = 0; i < n; ++i) {
      const int level = lattice->levels[static_cast<size_t>(i)];
      rounded->indices[line_index(r, i)] = static_cast<uint8_t>(level - levels(code).front());
      const float difference = x[static_cast<size_t>(i)] - scale * static_cast<float>(level);
      rounded->errors[r] += difference * difference;
    }
  }
}

// Of a ragged last tile in rotated space a part of the error falls on padding, where inputs are
// zero: the differences are rotated back, up to signs, to see how much. `tile` is the tile's place
// in its strip, `block` its place in the scale block that was rounded last.
double error_on_padding(Code code, const Strip& strip, int64_t tile, int64_t block, int rest,
                        const RoundedRows& rounded, int n_rows) {
  const bool two_level = traits(code).multiplier_bits > 0;
  const uint8_t* const indices = strip.lines + tile * kPanelRows;
  int8_t integers[kPanelRows * kTileK];  // in the order of lines, without multipliers
  if (traits(code).is_trellis)
    for (int at = 0; at < kPanelRows * kTileK; at += kTrellisSteps)
      trellis_levels(traits(code).bits, {indices + at, kTrellisSteps},
                     {integers + at, kTrellisSteps});
  else
    for (int at = 0; at < kPanelRows * kTileK; ++at) integers[at] = levels(code)[indices[at]];
  double error = 0;
  for (int r = 0; r < n_rows; ++r) {
    const float scale = scale_to_float(ScaleType::kF16, rounded.scales[r]);
    float difference[kTileK];
    for (int64_t i = 0; i < kTileK; ++i) {
      const int64_t k = tile + i;
      int integer = integers[line_index(r, i)];
      if (two_level) integer *= rounded.multipliers[(block + i) / kGroupK][r];
      difference[i] = strip.x[r * strip.width + k] - scale * static_cast<float>(integer);
    }
    reference::walsh_hadamard_64(difference);
    for (int i = rest; i < kTileK; ++i) error += double{difference[i]} * difference[i];
  }
  return error;
}

}  // namespace

void FloatRows::read(int64_t row, int64_t first, int64_t n, float* out) const {
  const int64_t value_bytes = traits(code).bits / 8;
  decode_floats(code,
                {bytes + (row * k + first) * value_bytes, static_cast<size_t>(n * value_bytes)},
                {out, static_cast<size_t>(n)});
}

RoundingLoss pack_panel_rows(const PackedGeometry& g, bool rotated, const FloatRows& rows,
                             int64_t first, int n_rows, std::span<uint8_t> codes,
                             std::span<uint8_t> meta) {
  LAPIDARY_CHECK(n_rows <= kPanelRows && rows.k == g.k);
  LAPIDARY_CHECK(static_cast<int64_t>(codes.size()) == g.panel_code_bytes);
  LAPIDARY_CHECK(static_cast<int64_t>(meta.size()) == g.panel_meta_bytes);
  const KernelTable& table = kernels();
  const int64_t scale_k = traits(g.code).scale_k;
  const bool two_level = traits(g.code).multiplier_bits > 0;
  const int64_t strip_k = std::max<int64_t>(scale_k, kTileK);
  const int rest = rotated ? static_cast<int>(g.k % kTileK) : 0;
  std::fill(meta.begin(), meta.end(), uint8_t{0});
  Strip strip;
  RoundedRows rounded;
  RoundingLoss loss;
  std::optional<TrellisSearcher> searcher;
  if (traits(g.code).is_trellis) searcher.emplace(g.code);
  bool tries_lattices = !rotated && scale_k == kGroupK && rows.code == Code::kBF16;
  for (int64_t k = 0; k < g.padded_k; k += strip_k) {
    strip.width = std::min(strip_k, g.padded_k - k);
    const int64_t logical = std::min(strip.width, g.k - k);
    strip.read(rows, first, n_rows, k, logical);
    // Without rotation nothing beyond k is a weight; with it, whole blocks of 64 are.
    if (rotated) table.rotate(strip.x, kPanelRows, strip.width);
    const int64_t used = rotated ? strip.width : logical;
    loss.fits = strip.make_fit(g.code) && loss.fits;
    for (int64_t block = 0; block < used; block += scale_k) {
      rounded.indices = strip.lines + block * kPanelRows;
      const int n = static_cast<int>(std::min(scale_k, used - block));
      if (searcher)
        round_trellis_rows(*searcher, strip.x, strip.width, static_cast<int>(strip.width), n,
                           &rounded);
      else
        table.round_rows(g.code, two_level, strip.x + block, strip.width, n, &rounded);
      keep_lattices(g.code, rows.code, strip, block, n, n_rows, &tries_lattices, &rounded);
      add_rows(rounded, n_rows, &loss);
      std::memcpy(meta.data() + (k + block) / scale_k * kPanelRows * 2, rounded.scales,
                  sizeof rounded.scales);
      for (int64_t at = block; two_level && at < std::min(block + scale_k, used); at += kGroupK)
        pack_group_multipliers(g, (k + at) / kGroupK, rounded.multipliers[(at - block) / kGroupK],
                               meta.data());
    }
    if (rest > 0 && k + strip.width == g.padded_k) {
      const int64_t tile = strip.width - kTileK;
      loss.error -= error_on_padding(g.code, strip, tile, tile % scale_k, rest, rounded, n_rows);
    }
    strip.pad(g.code, n_rows, used);
    for (int64_t tile = 0; tile < strip.width; tile += kTileK)
      pack_tile_lines(g.code, strip.lines + tile * kPanelRows,
                      codes.data() + (k + tile) / kTileK * g.tile_bytes);
  }
  return loss;
}

RoundingLoss pack_table_records(const RowTableGeometry& g, const FloatRows& records, int64_t first,
                                int count, std::span<uint8_t> out) {
  LAPIDARY_CHECK(count <= kPanelRows && records.k == g.width);
  LAPIDARY_CHECK(static_cast<int64_t>(out.size()) == count * g.record_bytes);
  const KernelTable& table = kernels();
  const int64_t scale_k = traits(g.code).scale_k;
  const bool two_level = traits(g.code).multiplier_bits > 0 && g.n_groups > 1;
  std::vector<RecordIntegers> integers(static_cast<size_t>(count));
  for (RecordIntegers& record : integers) {
    record.indices.resize(static_cast<size_t>(g.width));
    record.multipliers.assign(static_cast<size_t>(g.n_groups), 1);
    record.scales.resize(static_cast<size_t>(g.n_scales));
  }
  Strip strip;
  RoundedRows rounded;
  rounded.indices = strip.lines;
  RoundingLoss loss;
  std::optional<TrellisSearcher> searcher;
  if (traits(g.code).is_trellis) searcher.emplace(g.code);
  bool tries_lattices = scale_k == kGroupK && records.code == Code::kBF16;
  for (int64_t k = 0; k < g.width; k += scale_k) {
    const int64_t n = std::min(scale_k, g.width - k);
    strip.width = n;
    strip.read(records, first, count, k, n);
    loss.fits = strip.make_fit(g.code) && loss.fits;
    if (searcher)
      round_trellis_records(*searcher, strip.x, n, static_cast<int>(n), &rounded);
    else
      table.round_rows(g.code, two_level, strip.x, n, static_cast<int>(n), &rounded);
    keep_lattices(g.code, records.code, strip, 0, static_cast<int>(n), count, &tries_lattices,
                  &rounded);
    add_rows(rounded, count, &loss);
    for (int r = 0; r < count; ++r) {
      RecordIntegers& record = integers[static_cast<size_t>(r)];
      uint8_t* const indices = record.indices.data() + k;
      for (int64_t i = 0; i < n; ++i) indices[i] = strip.lines[line_index(r, i)];
      record.scales[static_cast<size_t>(k / scale_k)] = rounded.scales[r];
      for (int64_t at = 0; two_level && at < n; at += kGroupK)
        record.multipliers[static_cast<size_t>((k + at) / kGroupK)] =
            rounded.multipliers[at / kGroupK][r];
    }
  }
  for (int r = 0; r < count; ++r)
    pack_record(
        g, integers[static_cast<size_t>(r)],
        out.subspan(static_cast<size_t>(r * g.record_bytes), static_cast<size_t>(g.record_bytes)));
  return loss;
}

}  // namespace lapidary
