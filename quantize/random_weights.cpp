// A small stock of random panels and table rows per shape, written again and again from different
// starts.
#include "quantize/random_weights.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "formats/float_codes.h"
#include "formats/provenance.h"
#include "formats/tokenizer_tables.h"
#include "formats/trellis.h"
#include "quantize/tensor_plan.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

// Distinct weights per stock: packing is scalar, so this bounds the time it takes.
constexpr int64_t kStockWeights = int64_t{1} << 18;
constexpr int64_t kChunkBytes = int64_t{4} << 20;

// Draws the integers of weights whose deviation is known.
class Draw {
 public:
  Draw(Code code, float deviation) : traits_(traits(code)) {
    double level_square = 0, multiplier_square = 1;
    const std::span<const int8_t> table = levels(code);
    for (const int level : table) level_square += double(level * level) / double(table.size());
    if (traits_.is_trellis) level_square = kTrellisDeviation * kTrellisDeviation;
    if (traits_.max_multiplier > 0) {  // mean square of 1 .. m
      const double m = traits_.max_multiplier;
      multiplier_square = (m + 1) * (2 * m + 1) / 6;
    }
    one_level_scale_ = deviation / std::sqrt(level_square);
    scale_ = one_level_scale_ / std::sqrt(multiplier_square);
  }

  // Index 0 of the 8-bit codes is -128, beyond the symmetric range that weights keep to.
  uint8_t index() {
    const int64_t first = traits_.bits == 8 ? 1 : 0;
    return static_cast<uint8_t>(random_.between(first, (1 << traits_.bits) - 1));
  }
  int8_t multiplier() {
    const int64_t magnitude = random_.between(1, traits_.max_multiplier);
    return static_cast<int8_t>(random_.below(2) ? magnitude : -magnitude);
  }
  uint16_t scale(bool has_multipliers) {
    const double mean = has_multipliers ? scale_ : one_level_scale_;
    return float_to_scale(ScaleType::kF16,
                          static_cast<float>(mean * (0.75 + 0.5 * random_.uniform())));
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(random_.below(static_cast<uint64_t>(n))); }

 private:
  const CodeTraits& traits_;
  SplitMix64 random_{1};
  double scale_, one_level_scale_;
};

class RandomWriter {
 public:
  RandomWriter(const ModelSource& source, LapWriter* writer, float deviation, const Events& events)
      : source_(source), writer_(*writer), deviation_(deviation), events_(events) {
    progress_.what = "weights";
    for (const SourceTensor& t : source.tensors()) progress_.total += t.elements();
  }

  void write(size_t index, const LapTensor& entry) {
    progress_.detail = entry.name;
    if (entry.layout == Layout::kPanels)
      write_panels(index, entry);
    else if (traits(entry.code).is_float)
      write_floats(index, entry);
    else
      write_table(index, entry);
  }

 private:
  void advance(int64_t n_weights, int64_t n_bytes) {
    progress_.done += static_cast<uint64_t>(n_weights);
    progress_.bytes_done += static_cast<uint64_t>(n_bytes);
    events_.progress(progress_);
  }

  // The first `n_rows` rows are drawn, the rest is padding.
  static void draw_panel(Draw& draw, const PackedGeometry& g, int64_t n_rows,
                         std::span<uint8_t> codes, std::span<uint8_t> meta) {
    PanelIntegers in(g);
    const bool has_multipliers = !in.multipliers.empty();
    // No symbol of a trellis stands for zero: there, padding is drawn as well.
    const int64_t drawn_k = traits(g.code).is_trellis ? g.padded_k : g.k;
    for (int64_t row = 0; row < n_rows; ++row) {
      for (int64_t k = 0; k < drawn_k; ++k) in.indices[row * g.padded_k + k] = draw.index();
      for (int64_t i = 0; i < g.n_groups && has_multipliers; ++i)
        in.multipliers[row * g.n_groups + i] = draw.multiplier();
      for (int64_t i = 0; i < g.n_scale_blocks; ++i)
        in.scales[row * g.n_scale_blocks + i] = draw.scale(has_multipliers);
    }
    pack_panel(g, in, codes, meta);
  }

  void write_panels(size_t index, const LapTensor& entry) {
    const int64_t n_matrices = entry.shape.size() == 3 ? entry.shape[0] : 1;
    const PackedGeometry g =
        packed_geometry(entry.code, entry.shape[entry.shape.size() - 2], entry.shape.back());
    const int64_t n_stock = std::clamp<int64_t>(kStockWeights / (kPanelRows * g.padded_k), 2, 64);
    const int64_t at_once = std::clamp<int64_t>(kChunkBytes / g.panel_code_bytes, 1, g.n_panels);
    const int64_t n_whole = g.rows / kPanelRows;
    Draw draw(entry.code, deviation_);
    // Long enough that a chunk may start at any panel of the stock.
    std::vector<uint8_t> codes(static_cast<size_t>((n_stock + at_once) * g.panel_code_bytes));
    std::vector<uint8_t> meta(static_cast<size_t>((n_stock + at_once) * g.panel_meta_bytes));
    const auto panel = [](std::vector<uint8_t>& all, int64_t first, int64_t count, int64_t bytes) {
      return std::span(all).subspan(static_cast<size_t>(first * bytes),
                                    static_cast<size_t>(count * bytes));
    };
    for (int64_t p = 0; p < n_stock; ++p)
      draw_panel(draw, g, kPanelRows, panel(codes, p, 1, g.panel_code_bytes),
                 panel(meta, p, 1, g.panel_meta_bytes));
    for (size_t i = static_cast<size_t>(n_stock * g.panel_code_bytes); i < codes.size(); ++i)
      codes[i] = codes[i - static_cast<size_t>(n_stock * g.panel_code_bytes)];
    for (size_t i = static_cast<size_t>(n_stock * g.panel_meta_bytes); i < meta.size(); ++i)
      meta[i] = meta[i - static_cast<size_t>(n_stock * g.panel_meta_bytes)];

    for (int64_t matrix = 0; matrix < n_matrices; ++matrix) {
      for (int64_t first = 0; first < n_whole; first += at_once) {
        const int64_t count = std::min(at_once, n_whole - first), from = draw.below(n_stock);
        writer_.write_panels(index, matrix, first, panel(codes, from, count, g.panel_code_bytes),
                             panel(meta, from, count, g.panel_meta_bytes));
        advance(count * kPanelRows * g.k, count * (g.panel_code_bytes + g.panel_meta_bytes));
      }
      if (n_whole == g.n_panels) continue;
      std::vector<uint8_t> last_codes(static_cast<size_t>(g.panel_code_bytes));
      std::vector<uint8_t> last_meta(static_cast<size_t>(g.panel_meta_bytes));
      const int64_t n_rows = g.rows - n_whole * kPanelRows;
      draw_panel(draw, g, n_rows, last_codes, last_meta);
      writer_.write_panels(index, matrix, n_whole, last_codes, last_meta);
      advance(n_rows * g.k, g.panel_code_bytes + g.panel_meta_bytes);
    }
  }

  void write_table(size_t index, const LapTensor& entry) {
    const int64_t k = entry.shape.back();
    const RowTableGeometry g =
        row_table_geometry(entry.code, entry.shape[0], k / entry.record_width, entry.record_width);
    const int64_t n_stock = std::clamp<int64_t>(kStockWeights / k, 2, 64);
    const int64_t at_once = std::clamp<int64_t>(kChunkBytes / g.row_bytes, 1, g.n_rows);
    Draw draw(entry.code, deviation_);
    std::vector<uint8_t> rows(static_cast<size_t>((n_stock + at_once) * g.row_bytes));
    RecordIntegers record;
    record.indices.resize(static_cast<size_t>(g.width));
    record.multipliers.assign(static_cast<size_t>(g.n_groups), 1);
    record.scales.resize(static_cast<size_t>(g.n_scales));
    const bool has_multipliers = g.n_groups > 1 && traits(g.code).max_multiplier > 0;
    for (int64_t r = 0; r < n_stock * g.n_layers; ++r) {
      for (uint8_t& i : record.indices) i = draw.index();
      for (int8_t& m : record.multipliers) m = has_multipliers ? draw.multiplier() : 1;
      for (uint16_t& s : record.scales) s = draw.scale(has_multipliers);
      pack_record(g, record,
                  std::span(rows).subspan(static_cast<size_t>(r * g.record_bytes),
                                          static_cast<size_t>(g.record_bytes)));
    }
    const size_t stock_bytes = static_cast<size_t>(n_stock * g.row_bytes);
    for (size_t i = stock_bytes; i < rows.size(); ++i) rows[i] = rows[i - stock_bytes];
    for (int64_t first = 0; first < g.n_rows; first += at_once) {
      const int64_t count = std::min(at_once, g.n_rows - first);
      writer_.append(index,
                     std::span(rows).subspan(static_cast<size_t>(draw.below(n_stock) * g.row_bytes),
                                             static_cast<size_t>(count * g.row_bytes)));
      advance(count * k, count * g.row_bytes);
    }
  }

  void write_floats(size_t index, const LapTensor& entry) {
    const SourceTensor& tensor = source_.tensors()[index];
    const int64_t k = tensor.k(), bytes_per_row = k * traits(entry.code).bits / 8;
    const int64_t at_once = std::clamp<int64_t>(kChunkBytes / bytes_per_row, 1, tensor.rows());
    for (int64_t first = 0; first < tensor.rows(); first += at_once) {
      const int64_t count = std::min(at_once, tensor.rows() - first);
      std::vector<float> values(static_cast<size_t>(count * k));
      std::vector<uint8_t> bytes(static_cast<size_t>(count * bytes_per_row));
      source_.read_rows(index, first, count, values);
      encode_floats(entry.code, values, bytes);
      writer_.append(index, bytes);
      advance(count * k, count * bytes_per_row);
    }
  }

  const ModelSource& source_;
  LapWriter& writer_;
  float deviation_;
  const Events& events_;
  Progress progress_;
};

}  // namespace

QuantizeReport write_random(const ModelSource& source, const std::string& output, float deviation,
                            const QuantizeOptions& options, const Events& events) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<LapTensor> entries = plan_tensors(source, options);
  QuantizeReport report = plan(source, options);
  ModelMetadata metadata = source.metadata();
  metadata.recipe = options.recipe;
  Provenance provenance = provenance_from_json(metadata.provenance);
  provenance.lossy_steps.push_back(
      fmt::format("random {} weights, not made from a model", code_name(options.weights)));
  metadata.provenance = to_json(provenance);
  const std::string tokenizer_json = source.tokenizer_json();
  std::vector<uint8_t> tables;
  if (!tokenizer_json.empty())
    tables = compile_tokenizer(tokenizer_json, metadata.config.vocab_size);
  LapWriter writer(output, metadata, {tokenizer_json, tables}, entries);
  RandomWriter random(source, &writer, deviation, events);
  for (size_t i = 0; i < entries.size(); ++i) random.write(i, entries[i]);
  report.content_hash = writer.commit();
  report.file_bytes = writer.file_bytes();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace lapidary
