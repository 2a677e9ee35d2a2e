// The streaming copy: rows are read, checked by the source, and appended.
#include "formats/lap_copy.h"

#include <algorithm>

#include "formats/provenance.h"

namespace lapidary {
namespace {

// Large enough for full disk speed, small beside every other thing in memory.
constexpr int64_t kBufferBytes = int64_t{8} << 20;

}  // namespace

LapTensor plain_lap_tensor(const SourceTensor& tensor, const ModelConfig& config) {
  LAPIDARY_CHECK(traits(tensor.code).is_float);
  LapTensor out;
  out.name = tensor.name;
  out.shape = tensor.shape;
  out.code = tensor.code;
  if (tensor.name == kPleTensor && config.ple_width > 0) {
    out.layout = Layout::kRowTable;
    out.record_width = config.ple_width;
  }
  return out;
}

LapCopyResult copy_to_lap(const ModelSource& source, const std::string& output,
                          const ModelMetadata& metadata, const LapTokenizer& tokenizer,
                          bool is_source, const Events& events) {
  const std::vector<SourceTensor>& tensors = source.tensors();
  std::vector<LapTensor> entries;
  entries.reserve(tensors.size());
  for (const SourceTensor& t : tensors) entries.push_back(plain_lap_tensor(t, metadata.config));

  LapWriter writer(output, metadata, tokenizer, std::move(entries));
  std::vector<uint8_t> buffer;
  Progress progress{.what = "tensors", .total = tensors.size()};
  for (size_t i = 0; i < tensors.size(); ++i) {
    const SourceTensor& t = tensors[i];
    const int64_t row_bytes = t.k() * traits(t.code).bits / 8;
    const int64_t rows_at_once = std::clamp<int64_t>(kBufferBytes / row_bytes, 1, t.rows());
    buffer.resize(static_cast<size_t>(rows_at_once * row_bytes));
    progress.detail = t.name;
    for (int64_t first = 0; first < t.rows(); first += rows_at_once) {
      const int64_t count = std::min(rows_at_once, t.rows() - first);
      const auto bytes = std::span(buffer).first(static_cast<size_t>(count * row_bytes));
      source.read_raw(i, first, count, bytes);
      writer.append(i, bytes);
      progress.bytes_done += bytes.size();
      events.progress(progress);
    }
    ++progress.done;
  }
  events.progress(progress);
  if (is_source) {
    Provenance provenance = provenance_from_json(metadata.provenance);
    provenance.source_hash = writer.content_hash();
    writer.replace_provenance(to_json(provenance));
  }
  LapCopyResult result;
  result.content_hash = writer.commit();
  result.file_bytes = writer.file_bytes();
  return result;
}

}  // namespace lapidary
