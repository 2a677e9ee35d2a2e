// The streaming copy: rows are read, checked by the source, and appended, reading and writing at
// once.
#include "formats/lap_copy.h"

#include <algorithm>

#include "formats/provenance.h"
#include "formats/stages.h"

namespace lapidary {
namespace {

// Large enough for full disk speed, small beside every other thing in memory.
constexpr int64_t kBufferBytes = int64_t{8} << 20;

int64_t row_bytes(const SourceTensor& t) { return t.k() * traits(t.code).bits / 8; }

// Rows [first, first + count) of a tensor.
struct Piece {
  size_t tensor = 0;
  int64_t first = 0, count = 0;
  std::vector<uint8_t> bytes;  // while it is under way
};

std::vector<Piece> pieces_of(const std::vector<SourceTensor>& tensors) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const SourceTensor& t = tensors[i];
    const int64_t at_once = std::clamp<int64_t>(kBufferBytes / row_bytes(t), 1, t.rows());
    for (int64_t first = 0; first < t.rows(); first += at_once)
      pieces.push_back({i, first, std::min(at_once, t.rows() - first), {}});
  }
  return pieces;
}

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

LapCopyResult commit_copy(LapWriter& writer, const ModelMetadata& metadata, bool is_source) {
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

LapCopyResult copy_to_lap(const ModelSource& source, const std::string& output,
                          const ModelMetadata& metadata, const LapTokenizer& tokenizer,
                          bool is_source, const Events& events) {
  const std::vector<SourceTensor>& tensors = source.tensors();
  std::vector<LapTensor> entries;
  entries.reserve(tensors.size());
  for (const SourceTensor& t : tensors) entries.push_back(plain_lap_tensor(t, metadata.config));

  LapWriter writer(output, metadata, tokenizer, std::move(entries));
  const std::vector<Piece> pieces = pieces_of(tensors);
  Progress progress{.what = "tensors", .total = tensors.size()};
  run_in_stages<Piece>(
      static_cast<int64_t>(pieces.size()),
      [&](int64_t i, Piece& piece) {
        const Piece& next = pieces[static_cast<size_t>(i)];
        piece.tensor = next.tensor, piece.first = next.first, piece.count = next.count;
        piece.bytes.resize(static_cast<size_t>(next.count * row_bytes(tensors[next.tensor])));
        source.read_raw(next.tensor, next.first, next.count, piece.bytes);
      },
      [&](Piece& piece) {
        const SourceTensor& t = tensors[piece.tensor];
        progress.detail = t.name;
        progress.bytes_done += piece.bytes.size();
        if (piece.first + piece.count == t.rows()) ++progress.done;
        events.progress(progress);
      },
      [&](Piece& piece) { writer.append(piece.tensor, piece.bytes); });
  return commit_copy(writer, metadata, is_source);
}

}  // namespace lapidary
