// quantize(): the loop over tensors, chunk by chunk, panels shared out among threads.
//
// Results do not depend on the number of threads: a panel is rounded alone, and sums over panels
// are taken in their order.
#include "quantize/quantize.h"

#include <algorithm>
#include <chrono>

#include "formats/float_codes.h"
#include "formats/provenance.h"
#include "formats/tokenizer_tables.h"
#include "kernels/thread_pool.h"
#include "quantize/pack_rows.h"
#include "quantize/row_stream.h"
#include "quantize/tensor_plan.h"

namespace lapidary {
namespace {

// Weights in work at once: large enough to keep threads busy, some 30 MB with all buffers.
constexpr int64_t kChunkWeights = int64_t{4} << 20;

class Quantizer {
 public:
  Quantizer(const ModelSource& source, LapWriter* writer, ThreadPool* pool, const Events& events,
            bool hash_source)
      : source_(source), writer_(*writer), pool_(*pool), events_(events), hash_(hash_source) {
    progress_.what = "weights";
    for (const SourceTensor& t : source.tensors()) progress_.total += t.elements();
  }

  // Writes tensor `index` and returns its loss.
  RoundingLoss write(size_t index, const LapTensor& entry) {
    const SourceTensor& tensor = source_.tensors()[index];
    progress_.detail = tensor.name;
    RowStream rows(source_, index, hash_);
    RoundingLoss loss;
    if (entry.layout == Layout::kPanels) {
      loss = write_panels(index, entry, rows);
    } else if (traits(entry.code).is_float) {
      loss = write_floats(index, entry, rows);
    } else {
      loss = write_table(index, entry, rows);
    }
    if (!loss.fits)
      fail(ErrorCode::kBadData,
           "{}: tensor {} has weights too large for the 16-bit scales of {}; keep it with --keep "
           "{}=bf16",
           source_.describe(), tensor.name, code_name(entry.code), tensor.name);
    if (hash_) identities_.push_back(rows.identity());
    return loss;
  }

  // The identity of the float weights that were read. REQUIRES: hash_source, all tensors written.
  std::string source_hash() const { return content_hash(identities_); }

 private:
  void advance(int64_t n_weights) {
    progress_.done += static_cast<uint64_t>(n_weights);
    events_.progress(progress_);
  }

  RoundingLoss write_panels(size_t index, const LapTensor& entry, RowStream& rows) {
    const int64_t n_matrices = entry.shape.size() == 3 ? entry.shape[0] : 1;
    const int64_t k = entry.shape.back(), n_rows = entry.shape[entry.shape.size() - 2];
    const PackedGeometry g = packed_geometry(entry.code, n_rows, k);
    const int64_t panels_at_once =
        std::clamp<int64_t>(kChunkWeights / (kPanelRows * g.padded_k), 1, g.n_panels);
    std::vector<uint8_t> codes, meta;
    RoundingLoss total;
    for (int64_t matrix = 0; matrix < n_matrices; ++matrix) {
      for (int64_t first = 0; first < g.n_panels; first += panels_at_once) {
        const int64_t n_panels = std::min(panels_at_once, g.n_panels - first);
        const int64_t count = std::min(n_panels * kPanelRows, n_rows - first * kPanelRows);
        rows.read(count);
        codes.resize(static_cast<size_t>(n_panels * g.panel_code_bytes));
        meta.resize(static_cast<size_t>(n_panels * g.panel_meta_bytes));
        std::vector<RoundingLoss> losses(static_cast<size_t>(n_panels));
        pool_.run(n_panels, [&](int64_t p) {
          const int64_t first_row = p * kPanelRows;
          const int here = static_cast<int>(std::min<int64_t>(kPanelRows, count - first_row));
          std::vector<float> values(static_cast<size_t>(here * g.padded_k));
          for (int r = 0; r < here; ++r)
            rows.row(first_row + r, std::span(values).subspan(r * g.padded_k, k));
          losses[p] =
              pack_panel_rows(g, entry.rotated, here, values,
                              std::span(codes).subspan(p * g.panel_code_bytes, g.panel_code_bytes),
                              std::span(meta).subspan(p * g.panel_meta_bytes, g.panel_meta_bytes));
        });
        for (const RoundingLoss& loss : losses) total.add(loss);
        writer_.write_panels(index, matrix, first, codes, meta);
        advance(count * k);
      }
    }
    return total;
  }

  RoundingLoss write_table(size_t index, const LapTensor& entry, RowStream& rows) {
    const int64_t k = entry.shape.back();
    const RowTableGeometry g =
        row_table_geometry(entry.code, entry.shape[0], k / entry.record_width, entry.record_width);
    const int64_t rows_at_once = std::clamp<int64_t>(kChunkWeights / k, 1, g.n_rows);
    std::vector<uint8_t> bytes;
    RoundingLoss total;
    for (int64_t first = 0; first < g.n_rows; first += rows_at_once) {
      const int64_t count = std::min(rows_at_once, g.n_rows - first);
      rows.read(count);
      bytes.resize(static_cast<size_t>(count * g.row_bytes));
      std::vector<RoundingLoss> losses(static_cast<size_t>(count));
      pool_.run(count, [&](int64_t r) {
        std::vector<float> values(static_cast<size_t>(k));
        rows.row(r, values);
        losses[r] =
            pack_table_row(g, values, std::span(bytes).subspan(r * g.row_bytes, g.row_bytes));
      });
      for (const RoundingLoss& loss : losses) total.add(loss);
      writer_.append(index, bytes);
      advance(count * k);
    }
    return total;
  }

  // Kept as it is, or rounded to another float code.
  RoundingLoss write_floats(size_t index, const LapTensor& entry, RowStream& rows) {
    const SourceTensor& tensor = source_.tensors()[index];
    const int64_t k = tensor.k();
    const int64_t rows_at_once = std::clamp<int64_t>(kChunkWeights / k, 1, tensor.rows());
    std::vector<float> values(static_cast<size_t>(k)), rounded(values);
    std::vector<uint8_t> bytes(static_cast<size_t>(k * traits(entry.code).bits / 8));
    RoundingLoss total;
    for (int64_t first = 0; first < tensor.rows(); first += rows_at_once) {
      const int64_t count = std::min(rows_at_once, tensor.rows() - first);
      rows.read(count);
      if (tensor.code == entry.code) {
        writer_.append(index, rows.raw());
      } else {
        for (int64_t r = 0; r < count; ++r) {
          rows.row(r, values);
          encode_floats(entry.code, values, bytes);
          total.fits = total.fits && !has_nonfinite(entry.code, bytes);
          decode_floats(entry.code, bytes, rounded);
          for (int64_t i = 0; i < k; ++i) {
            const double difference = double{values[i]} - rounded[i];
            total.error += difference * difference;
            total.energy += double{values[i]} * values[i];
          }
          writer_.append(index, bytes);
        }
      }
      advance(count * k);
    }
    return total;
  }

  const ModelSource& source_;
  LapWriter& writer_;
  ThreadPool& pool_;
  const Events& events_;
  bool hash_;
  Progress progress_;
  std::vector<TensorIdentity> identities_;
};

bool is_packed(const ModelSource& source) {
  for (const SourceTensor& t : source.tensors())
    if (!traits(t.code).is_float) return true;
  return false;
}

// A hash known only at the end leaves 32 zeros for now.
Provenance describe_step(const ModelSource& source, const QuantizeOptions& options) {
  Provenance provenance = provenance_from_json(source.metadata().provenance);
  provenance.tool = kToolVersion;
  if (!is_packed(source)) provenance.source_hash = source.content_hash();
  provenance.lossy_steps.push_back(fmt::format(
      "quantize{} to {}: rounding with a scale search, no calibration",
      is_packed(source) ? " again, from packed weights," : "", code_name(options.weights)));
  return provenance;
}

}  // namespace

QuantizeReport quantize(const ModelSource& source, const std::string& output,
                        const QuantizeOptions& options, const Events& events) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<LapTensor> entries = plan_tensors(source, options);
  QuantizeReport report = plan(source, options);

  ModelMetadata metadata = source.metadata();
  Provenance provenance = describe_step(source, options);
  const bool hash_source = provenance.source_hash.empty() && !is_packed(source);
  metadata.provenance = to_json(provenance);
  metadata.recipe = options.recipe;
  std::vector<uint8_t> tables;
  const std::string tokenizer = source.tokenizer_json();
  if (!tokenizer.empty())
    tables = with_context(source.describe() + ": tokenizer.json",
                          [&] { return compile_tokenizer(tokenizer, metadata.config.vocab_size); });

  LapWriter writer(output, metadata, {tokenizer, tables}, entries);
  ThreadPool pool(options.n_threads);
  Quantizer quantizer(source, &writer, &pool, events, hash_source);
  for (size_t i = 0; i < entries.size(); ++i) {
    const RoundingLoss loss = quantizer.write(i, entries[i]);
    report.tensors[i].relative_error = loss.energy > 0 ? loss.error / loss.energy : 0;
  }
  if (hash_source) {
    provenance.source_hash = quantizer.source_hash();
    writer.replace_provenance(to_json(provenance));
  }
  report.content_hash = writer.commit();
  report.file_bytes = writer.file_bytes();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace lapidary
