// The streaming copy: rows are read, checked by the source, and appended, reading and writing at
// once.
#include "formats/lap_copy.h"

#include <algorithm>

#include "formats/provenance.h"
#include "formats/row_chunk.h"
#include "formats/stages.h"

namespace lapidary {
namespace {

// Large enough for full disk speed, small beside every other thing in memory.
constexpr int64_t kBufferBytes = int64_t{8} << 20;

int64_t row_bytes(const SourceTensor& t) { return t.k() * traits(t.code).bits / 8; }

struct Piece {
  RowChunk rows;
  std::vector<uint8_t> bytes;
};

std::vector<RowChunk> chunks_of(const std::vector<SourceTensor>& tensors) {
  std::vector<RowChunk> chunks;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const SourceTensor& t = tensors[i];
    const int64_t at_once = std::clamp<int64_t>(kBufferBytes / row_bytes(t), 1, t.rows());
    append_chunks(i, 0, t.rows(), at_once, &chunks);
  }
  return chunks;
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
  const std::vector<RowChunk> chunks = chunks_of(tensors);
  Progress progress{.what = "tensors", .total = tensors.size()};
  run_in_stages<Piece>(
      static_cast<int64_t>(chunks.size()),
      [&](int64_t i, Piece& piece) {
        const RowChunk& rows = piece.rows = chunks[static_cast<size_t>(i)];
        piece.bytes.resize(static_cast<size_t>(rows.count * row_bytes(tensors[rows.tensor])));
        source.read_raw(rows.tensor, rows.first, rows.count, piece.bytes);
      },
      [&](Piece& piece) {
        const SourceTensor& t = tensors[piece.rows.tensor];
        progress.detail = t.name;
        progress.bytes_done += piece.bytes.size();
        if (piece.rows.end() == t.rows()) ++progress.done;
        events.progress(progress);
      },
      [&](Piece& piece) { writer.append(piece.rows.tensor, piece.bytes); });
  return commit_copy(writer, metadata, is_source);
}

}  // namespace lapidary
