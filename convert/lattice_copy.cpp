// One loop per layout: plain rows, panels of 16 rows, records of per-layer embeddings.
#include "convert/lattice_copy.h"

#include <algorithm>

#include "formats/error.h"
#include "formats/packed_matrix.h"

namespace lapidary {
namespace {

constexpr int64_t kChunkWeights = int64_t{2} << 20;
constexpr int64_t kBlock = 32;  // inputs under one scale

LapTensor entry_of(const SourceTensor& tensor, const ModelConfig& config) {
  if (traits(tensor.code).is_float) return plain_lap_tensor(tensor, config);
  LapTensor out;
  out.name = tensor.name;
  out.shape = tensor.shape;
  out.code = tensor.code;
  out.layout = Layout::kPanels;
  if (tensor.name == kPleTensor) {
    out.layout = Layout::kRowTable;
    out.record_width = config.ple_width;
  }
  return out;
}

class Copier {
 public:
  Copier(const LatticeSource& source, LapWriter& writer, const std::vector<LapTensor>& entries,
         const Events& events)
      : source_(source), writer_(writer), entries_(entries), events_(events) {}

  void copy_all() {
    Progress progress{.what = "tensors", .total = entries_.size()};
    for (size_t i = 0; i < entries_.size(); ++i) {
      progress.detail = entries_[i].name;
      events_.progress(progress);
      if (entries_[i].layout == Layout::kPanels)
        copy_panels(i);
      else
        copy_rows(i);
      ++progress.done;
    }
    events_.progress(progress);
  }

 private:
  // Rows from `first` on that are read at once: whole panels.
  int64_t chunk_of(size_t index) const {
    const int64_t rows = kChunkWeights / source_.tensors()[index].k() / kPanelRows;
    return std::max<int64_t>(rows, 1) * kPanelRows;
  }

  void read_integers(size_t index, int64_t first, int64_t count) {
    const auto k = static_cast<size_t>(source_.tensors()[index].k());
    indices_.resize(static_cast<size_t>(count) * k);
    scales_.resize(indices_.size() / kBlock);
    source_.read_integers(index, first, count, indices_, scales_);
  }

  void copy_panels(size_t index) {
    const std::vector<int64_t>& shape = entries_[index].shape;
    const int64_t n_rows = shape[shape.size() - 2];
    const PackedGeometry g = packed_geometry(entries_[index].code, n_rows, shape.back());
    const int64_t n_matrices = source_.tensors()[index].rows() / n_rows;
    for (int64_t matrix = 0; matrix < n_matrices; ++matrix)
      for (int64_t first = 0; first < n_rows; first += chunk_of(index)) {
        events_.poll();
        const int64_t count = std::min(chunk_of(index), n_rows - first);
        read_integers(index, matrix * n_rows + first, count);
        codes_.clear();
        meta_.clear();
        for (int64_t row = 0; row < count; row += kPanelRows)
          pack(g, row, std::min<int64_t>(kPanelRows, count - row));
        writer_.write_panels(index, matrix, first / kPanelRows, codes_, meta_);
      }
  }

  void pack(const PackedGeometry& g, int64_t first, int64_t count) {
    PanelIntegers panel(g);
    for (int64_t row = 0; row < count; ++row) {
      const auto indices = indices_.begin() + (first + row) * g.k;
      const auto scales = scales_.begin() + (first + row) * g.k / kBlock;
      std::copy(indices, indices + g.k, panel.indices.begin() + row * g.padded_k);
      std::copy(scales, scales + g.k / kBlock, panel.scales.begin() + row * g.n_scale_blocks);
    }
    const size_t codes = codes_.size(), meta = meta_.size();
    codes_.resize(codes + static_cast<size_t>(g.panel_code_bytes));
    meta_.resize(meta + static_cast<size_t>(g.panel_meta_bytes));
    pack_panel(g, panel, std::span(codes_).subspan(codes), std::span(meta_).subspan(meta));
  }

  void copy_rows(size_t index) {
    const SourceTensor& t = source_.tensors()[index];
    for (int64_t first = 0; first < t.rows(); first += chunk_of(index)) {
      events_.poll();
      const int64_t count = std::min(chunk_of(index), t.rows() - first);
      if (traits(t.code).is_float) {
        codes_.resize(static_cast<size_t>(count * t.k() * traits(t.code).bits / 8));
        source_.read_raw(index, first, count, codes_);
      } else {
        read_integers(index, first, count);
        pack_records(index, count);
      }
      writer_.append(index, codes_);
    }
  }

  void pack_records(size_t index, int64_t count) {
    const LapTensor& entry = entries_[index];
    const int64_t width = entry.record_width;
    const RowTableGeometry g =
        row_table_geometry(entry.code, entry.shape[0], entry.shape[1] / width, width);
    codes_.resize(static_cast<size_t>(count * g.row_bytes));
    RecordIntegers record;
    record.multipliers.assign(static_cast<size_t>(g.n_groups), 1);
    for (int64_t i = 0; i < count * g.n_layers; ++i) {
      const auto indices = indices_.begin() + i * width;
      const auto scales = scales_.begin() + i * width / kBlock;
      record.indices.assign(indices, indices + width);
      record.scales.assign(scales, scales + width / kBlock);
      pack_record(g, record, std::span(codes_).subspan(i * g.record_bytes, g.record_bytes));
    }
  }

  const LatticeSource& source_;
  LapWriter& writer_;
  const std::vector<LapTensor>& entries_;
  const Events& events_;
  std::vector<uint8_t> indices_, codes_, meta_;
  std::vector<uint16_t> scales_;
};

}  // namespace

LapCopyResult copy_lattice_to_lap(const LatticeSource& source, const std::string& output,
                                  const LapTokenizer& tokenizer, const Events& events) {
  const ModelMetadata& metadata = source.metadata();
  std::vector<LapTensor> entries;
  for (const SourceTensor& t : source.tensors()) entries.push_back(entry_of(t, metadata.config));
  LapWriter writer(output, metadata, tokenizer, entries);
  Copier(source, writer, entries, events).copy_all();
  return commit_copy(writer, metadata, /*is_source=*/true);
}

}  // namespace lapidary
