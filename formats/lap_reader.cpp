// Opening a .lap: every byte before the data is checked here, in the order in which it is trusted.
#include <algorithm>
#include <map>

#include "formats/float_codes.h"
#include "formats/lap.h"
#include "formats/lap_layout.h"
#include "formats/lap_metadata.h"
#include "formats/lap_rows.h"
#include "formats/zstd_frames.h"

namespace lapidary {
namespace {

constexpr uint64_t kVerifyBytes = uint64_t{4} << 20;

std::string_view as_text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

struct LapReader::State {
  MappedFile map;
  ReadFile file;
  LapHeader header;
  ModelMetadata metadata;
  std::vector<LapTensor> index;
  std::vector<SourceTensor> tensors;
  std::map<std::string_view, size_t> by_name;

  std::span<const uint8_t> section(size_t which) const {
    const LapPlace& place = header.sections[which];
    return map.bytes().subspan(place.offset, place.bytes);
  }

  void check_sections() const {
    uint64_t end = kLapHeaderBytes;
    for (size_t i = 0; i < kSectionCount; ++i) {
      const LapPlace& place = header.sections[i];
      if (place.bytes == 0) continue;
      if (!all_zero(map.bytes().subspan(end, place.offset - end)))
        fail(ErrorCode::kBadData, "{}: damaged, the padding before it is not zero",
             section_name(i));
      if (hash_bytes(section(i)) != place.hash)
        fail(ErrorCode::kBadData, "{}: damaged, its hash does not fit; get the file again",
             section_name(i));
      end = place.offset + place.bytes;
    }
    if (!all_zero(map.bytes().subspan(end, header.data_offset - end)))
      fail(ErrorCode::kBadData, "damaged, the padding before the data is not zero");
  }

  void read_index() {
    index = decode_index(section(kIndex), header.n_tensors);
    check_places(index, header);
    tensors.reserve(index.size());
    for (size_t i = 0; i < index.size(); ++i) {
      if (!by_name.emplace(index[i].name, i).second)
        fail(ErrorCode::kBadData, "tensor index: {} stands there twice", index[i].name);
      tensors.push_back({index[i].name, index[i].shape, index[i].code});
    }
  }

  bool is_zero_at(uint64_t offset, uint64_t bytes) const {
    std::vector<uint8_t> padding(bytes);
    file.read_at(offset, padding);
    return all_zero(padding);
  }
};

LapReader::LapReader() : state_(std::make_unique<State>()) {}
LapReader::~LapReader() = default;

std::unique_ptr<LapReader> LapReader::open(const std::string& path) {
  std::unique_ptr<LapReader> reader(new LapReader);
  State& s = *reader->state_;
  s.map = MappedFile(path);
  s.file = ReadFile(path);
  with_context(path, [&] {
    if (s.file.size_bytes() != s.map.bytes().size())
      fail(ErrorCode::kIo, "was replaced while it was opened");
    s.header = decode_header(s.map.bytes(), s.map.bytes().size());
    s.check_sections();
    with_context("metadata",
                 [&] { s.metadata = metadata_from_json(as_text(s.section(kMetadata))); });
    s.read_index();
  });
  // Hashing touched every page before the data; most runs need few of them again.
  s.map.release(0, s.header.data_offset);
  s.map.prefer_large_pages(s.header.data_offset);
  return reader;
}

const ModelMetadata& LapReader::metadata() const { return state_->metadata; }
const std::vector<SourceTensor>& LapReader::tensors() const { return state_->tensors; }
const std::vector<LapTensor>& LapReader::index() const { return state_->index; }
const ReadFile& LapReader::file() const { return state_->file; }
std::string LapReader::describe() const { return state_->map.path(); }
uint64_t LapReader::file_bytes() const { return state_->map.bytes().size(); }
std::span<const uint8_t> LapReader::tokenizer_tables() const {
  return state_->section(kTokenizerTables);
}

std::string LapReader::tokenizer_json() const {
  std::string text(state_->header.tokenizer_json_bytes, '\0');
  if (!text.empty())
    with_context(state_->map.path() + ": tokenizer JSON", [&] {
      decompress_frame(state_->section(kTokenizerJson),
                       {reinterpret_cast<uint8_t*>(text.data()), text.size()});
    });
  return text;
}

const LapTensor* LapReader::find(std::string_view name) const {
  const auto found = state_->by_name.find(name);
  return found == state_->by_name.end() ? nullptr : &state_->index[found->second];
}

std::span<const uint8_t> LapReader::data(const LapTensor& t) const {
  return state_->map.bytes().subspan(t.offset, t.bytes);
}

MatrixView LapReader::matrix(const LapTensor& t, int64_t expert) const {
  const size_t n = t.shape.size();
  const int64_t experts = n == 3 ? t.shape[0] : 1;
  LAPIDARY_CHECK(n >= 2 && t.layout != Layout::kRowTable && expert >= 0 && expert < experts);
  MatrixView view{t.code, t.shape[n - 2], t.shape[n - 1], t.rotated, t.scale_type};
  view.codes = data(t).data();
  if (t.layout == Layout::kPlain) {
    view.codes += expert * view.rows * view.k * (traits(t.code).bits / 8);
    return view;
  }
  const PackedGeometry g = packed_geometry(t.code, view.rows, view.k);
  view.meta = view.codes + experts * g.code_bytes + expert * g.meta_bytes;
  view.codes += expert * g.code_bytes;
  return view;
}

void LapReader::read_rows(size_t index, int64_t first, int64_t count, std::span<float> out) const {
  LAPIDARY_CHECK(index < state_->index.size());
  read_lap_rows(state_->file, state_->index[index], first, count, out);
}

void LapReader::read_raw(size_t index, int64_t first, int64_t count, std::span<uint8_t> out) const {
  LAPIDARY_CHECK(index < state_->index.size());
  const LapTensor& t = state_->index[index];
  const int64_t rows = state_->tensors[index].rows();
  // A row table of floats lies like a plain tensor, so one formula serves both.
  const int64_t row_bytes = t.shape.back() * traits(t.code).bits / 8;
  LAPIDARY_CHECK(traits(t.code).is_float && first >= 0 && count >= 0 && count <= rows - first);
  LAPIDARY_CHECK(static_cast<int64_t>(out.size()) == count * row_bytes);
  state_->file.read_at(t.offset + static_cast<uint64_t>(first * row_bytes), out);
  if (has_nonfinite(t.code, out))
    fail(ErrorCode::kBadData, "{}: {}: rows {} to {} hold NaN or infinity; the weights are damaged",
         describe(), t.name, first, first + count - 1);
}

std::vector<float> LapReader::floats(const LapTensor& t) const {
  LAPIDARY_CHECK(t.layout == Layout::kPlain);
  std::vector<float> values(static_cast<size_t>(t.elements()));
  const int64_t rows = t.elements() / t.shape.back();
  read_lap_rows(state_->file, t, 0, rows, values);
  return values;
}

std::string LapReader::content_hash() const {
  std::vector<TensorIdentity> identities;
  identities.reserve(state_->index.size());
  for (const LapTensor& t : state_->index) identities.push_back({t.name, t.code, t.shape, t.hash});
  return lapidary::content_hash(std::move(identities));
}

double LapReader::bits_per_weight() const {
  double bytes = 0, elements = 0;
  for (const LapTensor& t : state_->index) {
    bytes += static_cast<double>(t.bytes);
    elements += static_cast<double>(t.elements());
  }
  return elements > 0 ? 8 * bytes / elements : 0;
}

std::vector<std::string> LapReader::verify(const Events& events) const {
  const State& s = *state_;
  std::vector<std::string> damaged;
  std::vector<uint8_t> buffer;
  Progress progress{.what = "tensors", .total = s.index.size()};
  uint64_t end = s.header.data_offset;
  for (const LapTensor& t : s.index) {
    progress.detail = t.name;
    StreamingHash hash;
    for (uint64_t at = 0; at < t.bytes;) {
      buffer.resize(std::min(kVerifyBytes, t.bytes - at));
      s.file.read_at(t.offset + at, buffer);
      hash.update(buffer);
      at += buffer.size();
      progress.bytes_done += buffer.size();
      events.progress(progress);
    }
    const bool padding_is_zero = s.is_zero_at(end, t.offset - end);
    if (hash.digest() != t.hash || !padding_is_zero) damaged.push_back(t.name);
    end = t.offset + t.bytes;
    ++progress.done;
  }
  events.progress(progress);
  return damaged;
}

}  // namespace lapidary
