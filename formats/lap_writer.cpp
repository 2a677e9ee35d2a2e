// Writing a .lap in one pass: all sizes follow from the specifications, so every place is known
// before the first byte; only hashes come late, and they lie before the data.
//
// A matrix's code bytes go out as they come. Its scales and multipliers (about a twentieth) lie
// after all codes but arrive with them, so they wait in memory until the tensor is complete; the
// hash then runs over codes and meta in file order and nothing is read back.
#include <optional>
#include <set>

#include "formats/lap.h"
#include "formats/lap_layout.h"
#include "formats/lap_metadata.h"
#include "formats/zstd_frames.h"

namespace lapidary {
namespace {

std::span<const uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// What has come of one tensor.
struct Arrival {
  std::optional<StreamingHash> hash;  // none before the first byte and after the last
  uint64_t bytes = 0;                 // codes and meta together
  int64_t panels = 0;
  std::vector<uint8_t> meta;
};

}  // namespace

struct LapWriter::State {
  State(const std::string& path, const ModelMetadata& given) : file(path), metadata(given) {}

  AtomicFile file;
  ModelMetadata metadata;
  LapHeader header;
  std::vector<LapTensor> tensors;
  std::vector<Arrival> arrivals;

  void write_section(size_t which, std::span<const uint8_t> bytes) {
    LapPlace& place = header.sections[which];
    LAPIDARY_CHECK(bytes.size() == place.bytes);
    if (bytes.empty()) return;
    place.hash = hash_bytes(bytes);
    file.write_at(place.offset, bytes);
  }

  // Hashes and stores bytes that follow those already there.
  void write_next(size_t index, std::span<const uint8_t> bytes) {
    const LapTensor& t = tensors[index];
    Arrival& arrival = arrivals[index];
    LAPIDARY_CHECK(bytes.size() <= t.bytes - arrival.bytes);
    if (!arrival.hash) arrival.hash.emplace();
    arrival.hash->update(bytes);
    file.write_at(t.offset + arrival.bytes, bytes);
    arrival.bytes += bytes.size();
    if (arrival.bytes == t.bytes) {
      tensors[index].hash = arrival.hash->digest();
      arrival.hash.reset();
    }
  }

  void check_complete() const {
    for (size_t i = 0; i < tensors.size(); ++i)
      LAPIDARY_CHECK(arrivals[i].bytes == tensors[i].bytes);
  }
};

LapWriter::LapWriter(const std::string& path, const ModelMetadata& metadata,
                     const LapTokenizer& tokenizer, std::vector<LapTensor> tensors)
    : state_(std::make_unique<State>(path, metadata)) {
  State& s = *state_;
  s.tensors = std::move(tensors);
  s.arrivals.resize(s.tensors.size());
  with_context(path, [&] {
    std::set<std::string_view> names;
    for (const LapTensor& t : s.tensors)
      if (!names.insert(t.name).second)
        fail(ErrorCode::kBadData, "tensor {} would be written twice", t.name);
    std::vector<uint8_t> packed_json;
    if (!tokenizer.json.empty()) packed_json = compress_frame(as_bytes(tokenizer.json));
    s.header.n_tensors = static_cast<uint32_t>(s.tensors.size());
    s.header.tokenizer_json_bytes = tokenizer.json.size();
    s.header.sections[kMetadata].bytes = metadata_to_json(s.metadata).size();
    s.header.sections[kTokenizerJson].bytes = packed_json.size();
    s.header.sections[kIndex].bytes = encode_index(s.tensors).size();
    s.header.sections[kTokenizerTables].bytes = tokenizer.tables.size();
    place_sections(s.header);
    s.header.file_bytes = place_tensors(s.tensors, s.header.data_offset);
    decode_header(encode_header(s.header), s.header.file_bytes);  // the reader's limits hold here
    s.write_section(kTokenizerJson, packed_json);
    s.write_section(kTokenizerTables, tokenizer.tables);
  });
}

LapWriter::~LapWriter() = default;

void LapWriter::append(size_t index, std::span<const uint8_t> bytes) {
  LAPIDARY_CHECK(index < state_->tensors.size() && state_->arrivals[index].panels == 0);
  state_->write_next(index, bytes);
}

void LapWriter::write_panels(size_t index, int64_t expert, int64_t first_panel,
                             std::span<const uint8_t> codes, std::span<const uint8_t> meta) {
  LAPIDARY_CHECK(index < state_->tensors.size());
  const LapTensor& t = state_->tensors[index];
  Arrival& arrival = state_->arrivals[index];
  LAPIDARY_CHECK(t.layout == Layout::kPanels);
  const size_t n = t.shape.size();
  const PackedGeometry g = packed_geometry(t.code, t.shape[n - 2], t.shape[n - 1]);
  const int64_t experts = n == 3 ? t.shape[0] : 1;
  const int64_t count = static_cast<int64_t>(codes.size()) / g.panel_code_bytes;
  LAPIDARY_CHECK(static_cast<int64_t>(codes.size()) == count * g.panel_code_bytes);
  LAPIDARY_CHECK(static_cast<int64_t>(meta.size()) == count * g.panel_meta_bytes);
  LAPIDARY_CHECK(count <= g.n_panels - first_panel);
  LAPIDARY_CHECK(expert * g.n_panels + first_panel == arrival.panels);  // in order

  if (arrival.panels == 0) arrival.meta.reserve(static_cast<size_t>(experts * g.meta_bytes));
  arrival.meta.insert(arrival.meta.end(), meta.begin(), meta.end());
  arrival.panels += count;
  state_->write_next(index, codes);
  if (arrival.panels == experts * g.n_panels) {
    state_->write_next(index, arrival.meta);
    arrival.meta = {};
  }
}

std::string LapWriter::content_hash() const {
  state_->check_complete();
  std::vector<TensorIdentity> identities;
  for (const LapTensor& t : state_->tensors)
    identities.push_back({t.name, t.code, t.shape, t.hash});
  return lapidary::content_hash(std::move(identities));
}

void LapWriter::replace_provenance(const std::string& provenance) {
  state_->metadata.provenance = provenance;  // commit() checks that the length is the same
}

std::string LapWriter::commit() {
  State& s = *state_;
  s.check_complete();
  s.write_section(kMetadata, as_bytes(metadata_to_json(s.metadata)));
  s.write_section(kIndex, encode_index(s.tensors));
  s.file.write_at(0, encode_header(s.header));
  s.file.commit();
  return content_hash();
}

uint64_t LapWriter::file_bytes() const { return state_->header.file_bytes; }

}  // namespace lapidary
