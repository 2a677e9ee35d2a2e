// quantize(): the loop over chunks of tensors. One is read and one written while the panels of a
// third are shared out among threads.
//
// Results do not depend on the number of threads: a panel is rounded alone, and sums over panels
// are taken in their order.
#include "quantize/quantize.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "formats/float_codes.h"
#include "formats/provenance.h"
#include "formats/stages.h"
#include "formats/tokenizer_tables.h"
#include "kernels/thread_pool.h"
#include "quantize/calibrator.h"
#include "quantize/pack_rows.h"
#include "quantize/row_stream.h"
#include "quantize/tensor_plan.h"

namespace lapidary {
namespace {

// Weights in a chunk: large enough to keep threads busy, some 40 MB for the three under way.
constexpr int64_t kChunkWeights = int64_t{4} << 20;

// A chunk's rows and what they become: bytes to append, or the codes and meta of panels.
struct Work {
  RowChunk chunk;
  ChunkRows rows;
  std::vector<uint8_t> codes, meta;
};

class Quantizer {
 public:
  Quantizer(const ModelSource& source, const std::vector<LapTensor>& entries, LapWriter* writer,
            ThreadPool* pool, const Events& events, bool hash_source, const WorkFolder* finished)
      : source_(source),
        entries_(entries),
        writer_(*writer),
        pool_(*pool),
        events_(events),
        stream_(source, hash_source),
        hash_source_(hash_source),
        finished_(finished),
        losses_(entries.size()) {
    progress_.what = "weights";
    for (const SourceTensor& t : source.tensors()) progress_.total += t.elements();
  }

  // Writes all tensors; the loss of each.
  const std::vector<RoundingLoss>& write_all() {
    const std::vector<RowChunk> chunks = chunks_of(source_, kChunkWeights, kPanelRows);
    run_in_stages<Work>(
        static_cast<int64_t>(chunks.size()),
        [&](int64_t i, Work& work) {
          work.chunk = chunks[static_cast<size_t>(i)];
          if (hash_source_ || !is_finished(work.chunk.tensor)) stream_.read(work.chunk, &work.rows);
        },
        [&](Work& work) { round(work); }, [&](Work& work) { write(work); });
    return losses_;
  }

  // The identity of the float weights that were read. REQUIRES: hash_source, write_all().
  std::string source_hash() const { return stream_.content_hash(); }

 private:
  bool is_finished(size_t index) const { return finished_ && finished_->pieces().contains(index); }

  // The last of its tensor.
  bool is_last(const RowChunk& chunk) const {
    return chunk.end() == source_.tensors()[chunk.tensor].rows();
  }

  void round(Work& work) {
    const size_t index = work.chunk.tensor;
    const LapTensor& entry = entries_[index];
    progress_.detail = entry.name;
    if (is_finished(index)) {
      // Its bytes lie in the work folder.
    } else if (entry.layout == Layout::kPanels)
      round_panels(entry, work);
    else if (!traits(entry.code).is_float)
      round_table(entry, work);
    else if (source_.tensors()[index].code != entry.code)
      round_floats(entry, work);
    if (is_last(work.chunk) && !losses_[index].fits)
      fail(ErrorCode::kBadData,
           "{}: tensor {} has weights too large for the 16-bit scales of {}; keep it with --keep "
           "{}=bf16",
           source_.describe(), entry.name, code_name(entry.code), entry.name);
    progress_.done += static_cast<uint64_t>(work.chunk.count * entry.shape.back());
    events_.progress(progress_);
  }

  // f(i) returns the loss of part i of the chunk; parts are shared out among threads.
  template <class Function>
  void share_out(size_t index, int64_t n_parts, Function&& f) {
    part_losses_.assign(static_cast<size_t>(n_parts), {});
    pool_.run(n_parts, [&](int64_t i) { part_losses_[static_cast<size_t>(i)] = f(i); });
    for (const RoundingLoss& loss : part_losses_) losses_[index].add(loss);
  }

  static PackedGeometry geometry(const LapTensor& entry) {
    return packed_geometry(entry.code, entry.shape[entry.shape.size() - 2], entry.shape.back());
  }

  void round_panels(const LapTensor& entry, Work& work) {
    const PackedGeometry g = geometry(entry);
    const FloatRows rows = work.rows.view();
    const int64_t count = work.chunk.count, n_panels = (count + kPanelRows - 1) / kPanelRows;
    work.codes.resize(static_cast<size_t>(n_panels * g.panel_code_bytes));
    work.meta.resize(static_cast<size_t>(n_panels * g.panel_meta_bytes));
    share_out(work.chunk.tensor, n_panels, [&](int64_t p) {
      const int64_t first = p * kPanelRows;
      return pack_panel_rows(
          g, entry.rotated, rows, first,
          static_cast<int>(std::min<int64_t>(kPanelRows, count - first)),
          std::span(work.codes).subspan(p * g.panel_code_bytes, g.panel_code_bytes),
          std::span(work.meta).subspan(p * g.panel_meta_bytes, g.panel_meta_bytes));
    });
  }

  void round_table(const LapTensor& entry, Work& work) {
    const int64_t width = entry.record_width, n_layers = entry.shape.back() / width;
    const RowTableGeometry g = row_table_geometry(entry.code, entry.shape[0], n_layers, width);
    const FloatRows records = work.rows.view(width);
    const int64_t count = work.chunk.count * n_layers;
    work.codes.resize(static_cast<size_t>(count * g.record_bytes));
    share_out(work.chunk.tensor, (count + kPanelRows - 1) / kPanelRows, [&](int64_t part) {
      const int64_t first = part * kPanelRows, n = std::min<int64_t>(kPanelRows, count - first);
      return pack_table_records(
          g, records, first, static_cast<int>(n),
          std::span(work.codes).subspan(first * g.record_bytes, n * g.record_bytes));
    });
  }

  // To another float code, row by row.
  void round_floats(const LapTensor& entry, Work& work) {
    const FloatRows rows = work.rows.view();
    const int64_t row_bytes = rows.k * traits(entry.code).bits / 8;
    work.codes.resize(static_cast<size_t>(work.chunk.count * row_bytes));
    share_out(work.chunk.tensor, work.chunk.count, [&](int64_t r) {
      const auto bytes = std::span(work.codes).subspan(r * row_bytes, row_bytes);
      std::vector<float> values(static_cast<size_t>(rows.k)), rounded(values);
      rows.read(r, 0, rows.k, values.data());
      encode_floats(entry.code, values, bytes);
      decode_floats(entry.code, bytes, rounded);
      RoundingLoss loss;
      loss.fits = !has_nonfinite(entry.code, bytes);
      for (size_t i = 0; i < values.size(); ++i) {
        const double difference = double{values[i]} - rounded[i];
        loss.error += difference * difference;
        loss.energy += double{values[i]} * values[i];
      }
      return loss;
    });
  }

  void write(const Work& work) {
    const RowChunk& chunk = work.chunk;
    const LapTensor& entry = entries_[chunk.tensor];
    if (is_finished(chunk.tensor)) {
      if (is_last(chunk)) finished_->copy(chunk.tensor, writer_);
    } else if (entry.layout == Layout::kPanels) {
      const int64_t n_rows = entry.shape[entry.shape.size() - 2];
      writer_.write_panels(chunk.tensor, chunk.first / n_rows, chunk.first % n_rows / kPanelRows,
                           work.codes, work.meta);
    } else {
      const bool as_it_is =
          traits(entry.code).is_float && source_.tensors()[chunk.tensor].code == entry.code;
      writer_.append(chunk.tensor, as_it_is ? work.rows.raw() : work.codes);
    }
  }

  const ModelSource& source_;
  const std::vector<LapTensor>& entries_;
  LapWriter& writer_;
  ThreadPool& pool_;
  const Events& events_;
  RowStream stream_;
  bool hash_source_;
  const WorkFolder* finished_;  // tensors that calibration has rounded; null: none
  Progress progress_;
  std::vector<RoundingLoss> losses_, part_losses_;
};

bool is_packed(const ModelSource& source) {
  for (const SourceTensor& t : source.tensors())
    if (!traits(t.code).is_float) return true;
  return false;
}

std::string describe_rounding(const QuantizeOptions& options, const CalibrationWindows& text) {
  if (!options.calibration) return "rounding with a scale search, no calibration";
  return describe_calibration(*options.calibration, text);
}

// The codes of what is packed, those of the most weights first: "t4, w8".
std::string describe_codes(const std::vector<LapTensor>& entries) {
  std::vector<std::pair<int64_t, Code>> packed;  // weights, code
  for (const LapTensor& t : entries) {
    if (traits(t.code).is_float) continue;
    const auto known = std::ranges::find(packed, t.code, &std::pair<int64_t, Code>::second);
    if (known == packed.end())
      packed.emplace_back(t.elements(), t.code);
    else
      known->first += t.elements();
  }
  std::ranges::stable_sort(packed, std::greater(), &std::pair<int64_t, Code>::first);
  std::string text;
  for (const auto& [weights, code] : packed)
    text += (text.empty() ? "" : ", ") + std::string(code_name(code));
  return text.empty() ? "floats" : text;
}

// A hash known only at the end leaves 32 zeros for now.
Provenance describe_step(const ModelSource& source, const std::vector<LapTensor>& entries,
                         const QuantizeOptions& options, const CalibrationWindows& text) {
  Provenance provenance = provenance_from_json(source.metadata().provenance);
  provenance.tool = kToolVersion;
  if (!is_packed(source)) provenance.source_hash = source.content_hash();
  provenance.lossy_steps.push_back(
      fmt::format("quantize{} to {}: {}", is_packed(source) ? " again, from packed weights," : "",
                  describe_codes(entries), describe_rounding(options, text)));
  return provenance;
}

// Writes the file; with `calibrated`, tensors that calibration has rounded are taken from there.
void write_file(const ModelSource& source, const std::string& output,
                const std::vector<LapTensor>& entries, const QuantizeOptions& options,
                const CalibrationWindows& text, const WorkFolder* calibrated, const Events& events,
                QuantizeReport& report) {
  ModelMetadata metadata = source.metadata();
  Provenance provenance = describe_step(source, entries, options, text);
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
  Quantizer quantizer(source, entries, &writer, &pool, events, hash_source, calibrated);
  const std::vector<RoundingLoss>& losses = quantizer.write_all();
  for (size_t i = 0; i < entries.size(); ++i)
    report.tensors[i].relative_error =
        losses[i].energy > 0 ? losses[i].error / losses[i].energy : 0;
  for (const auto& [i, piece] : calibrated ? calibrated->pieces() : WorkFolder::Pieces()) {
    const FeedbackLoss& loss = piece.loss;
    report.tensors[i].relative_error =
        loss.plain_energy > 0 ? loss.plain_error / loss.plain_energy : 0;
    report.tensors[i].output_error = loss.energy > 0 ? loss.error / loss.energy : 0;
  }
  if (hash_source) {
    provenance.source_hash = quantizer.source_hash();
    writer.replace_provenance(to_json(provenance));
  }
  report.content_hash = writer.commit();
  report.file_bytes = writer.file_bytes();
}

}  // namespace

QuantizeReport quantize(const ModelSource& source, const std::string& output,
                        const QuantizeOptions& options, const Events& events) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<LapTensor> entries = plan_tensors(source, options);
  QuantizeReport report = plan(source, options);
  if (options.calibration) {
    const CalibrationWindows text = calibration_windows(source, *options.calibration);
    report.memory = plan_calibration_memory(source, entries, *options.calibration, text.n_tokens);
    require_memory(report.memory, options.calibration->memory_bytes);
    calibrate_and_write(source, output, entries, text, *options.calibration, options.n_threads,
                        events, [&](const WorkFolder& folder) {
                          write_file(source, output, entries, options, text, &folder, events,
                                     report);
                        });
  } else {
    write_file(source, output, entries, options, {}, nullptr, events, report);
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace lapidary
