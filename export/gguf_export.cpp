// Choosing types, then one pass over the tensors, reading, encoding and writing at once.
#include "export/gguf_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>

#include "export/exact_blocks.h"
#include "export/gguf_metadata.h"
#include "export/gguf_tokenizer.h"
#include "export/modelfile.h"
#include "formats/error.h"
#include "formats/file.h"
#include "formats/float_codes.h"
#include "formats/gguf.h"
#include "formats/gguf_names.h"
#include "formats/row_chunk.h"
#include "formats/stages.h"
#include "kernels/ggml_encode.h"
#include "kernels/thread_pool.h"

namespace lapidary {
namespace {

constexpr int64_t kPieceValues = int64_t{2} << 20;

struct Plan {
  GgufPlace place;
  bool exact_copy = false;  // integers move as they are
  std::shared_ptr<const ReadFile> rounded;
};

bool is_same_float(Code code, GgmlType type) {
  return (code == Code::kF32 && type == GgmlType::kF32) ||
         (code == Code::kF16 && type == GgmlType::kF16) ||
         (code == Code::kBF16 && type == GgmlType::kBF16);
}

bool is_lossless(Code code, GgmlType type) {
  return type == GgmlType::kF32 || is_same_float(code, type);
}

// Rows on their way, in GGUF's order.
struct Piece {
  RowChunk rows;
  std::vector<uint8_t> floats;  // as stored, where the source is a float that has to be encoded
  std::vector<float> values;    // of a packed source that has to be encoded
  std::vector<uint8_t> blocks;  // what is written
};

class Exporter {
 public:
  Exporter(const LapReader& model, const GgufExportOptions& options)
      : model_(model), options_(options), pool_(options.n_threads) {
    for (const LapTensor& t : model.index()) plan(t);
    const std::vector<float> divisors = gguf_rope_divisors(model.metadata().config);
    if (!divisors.empty()) {
      divisors_.resize(divisors.size() * sizeof(float));
      encode_blocks(GgmlType::kF32, divisors, divisors_);
      tensors_.push_back({"rope_freqs.weight", {static_cast<int64_t>(divisors.size())}});
    }
  }

  GgufExportReport run(const std::string& output, const Events& events) {
    const auto start = std::chrono::steady_clock::now();
    GgufWriter writer(output, pairs(), tensors_);
    const std::vector<RowChunk> chunks = chunks_of();
    run_in_stages<Piece>(
        static_cast<int64_t>(chunks.size()),
        [&](int64_t i, Piece& piece) {
          piece.rows = chunks[static_cast<size_t>(i)];
          read(piece);
        },
        [&](Piece& piece) {
          events.poll();
          const size_t tensor = piece.rows.tensor;
          if (piece.rows.first == 0)
            events.progress({"tensors", tensor, plans_.size(), bytes_done_, tensors_[tensor].name});
          encode(piece);
          bytes_done_ += piece.blocks.size();
        },
        [&](Piece& piece) { writer.append(piece.blocks); });
    if (!divisors_.empty()) writer.append(divisors_);
    report_.file_bytes = writer.commit();
    double values = 0, bytes = 0;
    for (const GgufTensor& t : writer.tensors()) {
      values += static_cast<double>(t.rows() * t.k());
      bytes += static_cast<double>(t.bytes());
    }
    report_.bits_per_weight = 8.0 * bytes / values;
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    report_.seconds = seconds.count();
    return std::move(report_);
  }

  uint64_t overhead_bytes() const {
    return lapidary::gguf_overhead_bytes(pairs(), tensors_) + divisors_.size();
  }

 private:
  std::vector<GgufPair> pairs() const {
    std::vector<GgufPair> pairs = gguf_metadata(
        model_.metadata(), std::filesystem::path(model_.describe()).stem(), main_type());
    for (GgufPair& pair : gguf_tokenizer(model_.tokenizer_json(), model_.metadata().config))
      pairs.push_back(std::move(pair));
    return pairs;
  }

  void plan(const LapTensor& t) {
    Plan plan;
    plan.place = gguf_place(model_.metadata().config, t.name);
    GgufTensor out{plan.place.name, t.shape, GgmlType::kF32};
    if (plan.place.matrix) {
      out.type = fitting_type(options_.type.value_or(nearest_type(t.code)), t.shape.back());
      const auto own = options_.types.find(t.name);
      if (own != options_.types.end()) out.type = own->second;
      const auto file = options_.rounded.find(t.name);
      if (file != options_.rounded.end()) plan.rounded = std::make_shared<ReadFile>(file->second);
      const std::optional<GgmlType> exact = exact_type(model_, t);
      plan.exact_copy = exact && *exact == out.type;
    }
    report_.tensors.push_back(
        {out.name, t.name, t.code, out.type, plan.exact_copy || is_lossless(t.code, out.type)});
    plans_.push_back(std::move(plan));
    tensors_.push_back(std::move(out));
  }

  // The type that takes the most weights.
  GgmlType main_type() const {
    std::map<GgmlType, int64_t> values;
    for (const GgufTensor& t : tensors_) values[t.type] += t.rows() * t.k();
    return std::max_element(values.begin(), values.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }

  std::vector<RowChunk> chunks_of() const {
    std::vector<RowChunk> chunks;
    for (size_t i = 0; i < plans_.size(); ++i) {
      const GgufTensor& t = tensors_[i];
      // Interleaved heads stay within a chunk.
      const int64_t unit = std::max(plans_[i].place.interleaved_head, 1);
      const int64_t at_once = std::max(kPieceValues / t.k() / unit, int64_t{1}) * unit;
      append_chunks(i, 0, t.rows(), at_once, &chunks);
    }
    return chunks;
  }

  // What the rows of a piece come from; where no arithmetic is needed, its blocks at once.
  void read(Piece& piece) const {
    const Plan& plan = plans_[piece.rows.tensor];
    const Code code = model_.tensors()[piece.rows.tensor].code;
    piece.floats.clear();
    piece.values.clear();
    piece.blocks.resize(static_cast<size_t>(piece.rows.count) *
                        tensors_[piece.rows.tensor].row_bytes());
    if (plan.rounded) {
      copy_rows(piece, [&](int64_t row, int64_t, std::span<uint8_t> out) {
        const uint64_t row_bytes = tensors_[piece.rows.tensor].row_bytes();
        plan.rounded->read_at(static_cast<uint64_t>(row) * row_bytes, out);
      });
    } else if (plan.exact_copy) {
      copy_rows(piece, [&](int64_t row, int64_t count, std::span<uint8_t> out) {
        copy_exact_rows(model_, model_.index()[piece.rows.tensor], row, count, out);
      });
    } else if (traits(code).is_float) {
      read_floats(piece, code);
    } else {
      piece.values.resize(static_cast<size_t>(piece.rows.count * tensors_[piece.rows.tensor].k()));
      model_.read_rows(piece.rows.tensor, piece.rows.first, piece.rows.count, piece.values);
    }
  }

  void read_floats(Piece& piece, Code code) const {
    const Plan& plan = plans_[piece.rows.tensor];
    const GgufTensor& t = tensors_[piece.rows.tensor];
    const bool moves_as_it_is =
        is_same_float(code, t.type) && !plan.place.add_one && plan.place.interleaved_head == 0;
    std::vector<uint8_t>& floats = moves_as_it_is ? piece.blocks : piece.floats;
    floats.resize(static_cast<size_t>(piece.rows.count * t.k() * traits(code).bits / 8));
    model_.read_raw(piece.rows.tensor, piece.rows.first, piece.rows.count, floats);
  }

  // f(first source row, count, out) for runs of rows that stand beside each other in the source.
  template <class F>
  void copy_rows(Piece& piece, F&& f) const {
    const GgufPlace& place = plans_[piece.rows.tensor].place;
    if (place.interleaved_head == 0)
      return f(piece.rows.first, piece.rows.count, std::span(piece.blocks));
    const size_t row_bytes = tensors_[piece.rows.tensor].row_bytes();
    for (int64_t row = 0; row < piece.rows.count; ++row)
      f(source_row(place, piece.rows.first + row), 1,
        std::span(piece.blocks).subspan(static_cast<size_t>(row) * row_bytes, row_bytes));
  }

  void encode(Piece& piece) {
    if (piece.floats.empty() && piece.values.empty()) return;
    const GgufTensor& t = tensors_[piece.rows.tensor];
    const GgufPlace& place = plans_[piece.rows.tensor].place;
    const Code code = model_.tensors()[piece.rows.tensor].code;
    const size_t k = static_cast<size_t>(t.k()), row_bytes = t.row_bytes();
    const size_t float_bytes = k * static_cast<size_t>(traits(code).bits) / 8;
    pool_.run(piece.rows.count, [&](int64_t row) {
      const size_t source =
          static_cast<size_t>(source_row(place, piece.rows.first + row) - piece.rows.first);
      std::vector<float> values(k);
      if (piece.values.empty())
        decode_floats(code, std::span(piece.floats).subspan(source * float_bytes, float_bytes),
                      values);
      else
        std::copy_n(&piece.values[source * k], k, values.begin());
      if (place.add_one)
        for (float& v : values) v += 1.0f;
      encode_blocks(
          t.type, values,
          std::span(piece.blocks).subspan(static_cast<size_t>(row) * row_bytes, row_bytes));
    });
  }

  const LapReader& model_;
  const GgufExportOptions& options_;
  ThreadPool pool_;
  std::vector<Plan> plans_;
  std::vector<GgufTensor> tensors_;  // like plans_, then the divisors if any
  std::vector<uint8_t> divisors_;
  GgufExportReport report_;
  uint64_t bytes_done_ = 0;
};

void write_companions(const LapReader& model, const std::string& output, ModelCard card,
                      const GgufExportReport& report) {
  const std::filesystem::path path(output);
  const std::string stem = (path.parent_path() / path.stem()).string();
  const std::string name = path.filename().string();
  card.title = path.stem().string();
  card.library = "gguf";
  card.content_hash = model.content_hash();
  if (!std::all_of(report.tensors.begin(), report.tensors.end(), [](auto& t) { return t.exact; }))
    card.lossy_steps.push_back("weights were rounded to GGUF types");
  card.usage = fmt::format("```\nllama-cli -m {}\nollama create {} -f {}.Modelfile\n```", name,
                           card.title, card.title);
  write_text_atomically(stem + ".README.md", model_card(model.metadata(), card));
  write_text_atomically(stem + ".Modelfile", ollama_modelfile(model, name));
}

}  // namespace

GgmlType nearest_type(Code code) {
  static constexpr std::array<GgmlType, kCodeCount> kNearest{
      GgmlType::kF32,  GgmlType::kF16,  GgmlType::kBF16, GgmlType::kQ8_0, GgmlType::kQ6_K,
      GgmlType::kQ5_K, GgmlType::kQ4_K, GgmlType::kQ3_K, GgmlType::kQ4_0, GgmlType::kQ8_0,
      GgmlType::kQ3_K, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K};
  return kNearest[static_cast<size_t>(code)];
}

uint64_t gguf_overhead_bytes(const LapReader& model) {
  return Exporter(model, {}).overhead_bytes();
}

GgufExportReport export_gguf(const LapReader& model, const std::string& output,
                             const GgufExportOptions& options, const Events& events) {
  if (options.type && !can_encode(*options.type))
    fail(ErrorCode::kUsage, "GGUF type {} can be read but not written", traits(*options.type).name);
  GgufExportReport report = Exporter(model, options).run(output, events);
  write_companions(model, output, options.card, report);
  return report;
}

}  // namespace lapidary
