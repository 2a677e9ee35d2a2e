// Choosing types, then one pass over the tensors.
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
#include "formats/gguf.h"
#include "formats/gguf_names.h"
#include "kernels/ggml_encode.h"
#include "kernels/thread_pool.h"

namespace lapidary {
namespace {

constexpr int64_t kChunkValues = int64_t{2} << 20;

struct Plan {
  GgufPlace place;
  bool exact_copy = false;  // integers move as they are
  std::shared_ptr<const ReadFile> rounded;
};

bool is_lossless(Code code, GgmlType type) {
  return type == GgmlType::kF32 || (code == Code::kF16 && type == GgmlType::kF16) ||
         (code == Code::kBF16 && type == GgmlType::kBF16);
}

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
    for (size_t i = 0; i < plans_.size(); ++i) {
      events.progress({"tensors", i, plans_.size(), writer.position(), tensors_[i].name});
      write(i, &writer, events);
    }
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

  void write(size_t index, GgufWriter* writer, const Events& events) {
    const GgufTensor& t = tensors_[index];
    // Interleaved heads stay within a chunk.
    const int64_t unit = std::max(plans_[index].place.interleaved_head, 1);
    const int64_t chunk = std::max(kChunkValues / t.k() / unit, int64_t{1}) * unit;
    for (int64_t first = 0; first < t.rows(); first += chunk) {
      events.poll();
      const int64_t count = std::min(chunk, t.rows() - first);
      blocks_.resize(static_cast<size_t>(count) * t.row_bytes());
      if (plans_[index].rounded)
        copy_rounded(index, first, count);
      else if (plans_[index].exact_copy)
        copy_exact(index, first, count);
      else
        encode(index, first, count);
      writer->append(blocks_);
    }
  }

  void copy_exact(size_t index, int64_t first, int64_t count) {
    const GgufPlace& place = plans_[index].place;
    const size_t row_bytes = tensors_[index].row_bytes();
    if (place.interleaved_head == 0)
      return copy_exact_rows(model_, model_.index()[index], first, count, blocks_);
    for (int64_t row = 0; row < count; ++row)
      copy_exact_rows(model_, model_.index()[index], source_row(place, first + row), 1,
                      std::span(blocks_).subspan(static_cast<size_t>(row) * row_bytes, row_bytes));
  }

  void copy_rounded(size_t index, int64_t first, int64_t count) {
    const Plan& plan = plans_[index];
    const uint64_t row_bytes = tensors_[index].row_bytes();
    if (plan.place.interleaved_head == 0)
      return plan.rounded->read_at(static_cast<uint64_t>(first) * row_bytes, blocks_);
    for (int64_t row = 0; row < count; ++row)
      plan.rounded->read_at(
          static_cast<uint64_t>(source_row(plan.place, first + row)) * row_bytes,
          std::span(blocks_).subspan(static_cast<uint64_t>(row) * row_bytes, row_bytes));
  }

  void encode(size_t index, int64_t first, int64_t count) {
    const GgufTensor& t = tensors_[index];
    const GgufPlace& place = plans_[index].place;
    const size_t k = static_cast<size_t>(t.k()), row_bytes = t.row_bytes();
    values_.resize(static_cast<size_t>(count) * k);
    model_.read_rows(index, first, count, values_);
    if (place.add_one)
      for (float& v : values_) v += 1.0f;
    pool_.run(count, [&](int64_t row) {
      const int64_t source = source_row(place, first + row) - first;
      encode_blocks(t.type, std::span(values_).subspan(static_cast<size_t>(source) * k, k),
                    std::span(blocks_).subspan(static_cast<size_t>(row) * row_bytes, row_bytes));
    });
  }

  const LapReader& model_;
  const GgufExportOptions& options_;
  ThreadPool pool_;
  std::vector<Plan> plans_;
  std::vector<GgufTensor> tensors_;  // like plans_, then the divisors if any
  std::vector<uint8_t> divisors_, blocks_;
  std::vector<float> values_;
  GgufExportReport report_;
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
