// Encoding and decoding of a .lap's header and tensor index. Every number read here is hostile
// until compared with a bound; the hashes find accidents, not malice.
#include "formats/lap_layout.h"

#include <algorithm>
#include <cstring>

#include "formats/error.h"

namespace lapidary {
namespace {

// Below half of what the geometries accept, so that no shape from a file can reach their checks;
// sizes in bytes then stay below 2^62.
constexpr int64_t kMaxElements = int64_t{1} << 47;
constexpr uint8_t kRotationLog2 = 6;  // blocks of 64; 0 means not rotated
constexpr size_t kHeaderHashOffset = kLapHeaderBytes - 16;

class ByteWriter {
 public:
  explicit ByteWriter(size_t bytes) { out_.reserve(bytes); }
  template <class T>
  void put(T value) {
    const size_t at = out_.size();
    out_.resize(at + sizeof value);
    std::memcpy(out_.data() + at, &value, sizeof value);
  }
  void put(Hash128 hash) {
    put(hash.low);
    put(hash.high);
  }
  void put_text(std::string_view text) { out_.insert(out_.end(), text.begin(), text.end()); }
  void zeros_until(size_t size) { out_.resize(size); }
  std::span<const uint8_t> bytes() const { return out_; }
  std::vector<uint8_t> take() { return std::move(out_); }

 private:
  std::vector<uint8_t> out_;
};

// REQUIRES of every call: the caller has checked that the bytes are there.
class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  template <class T>
  T get() {
    LAPIDARY_CHECK(at_ + sizeof(T) <= bytes_.size());
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  Hash128 get_hash() {
    const uint64_t low = get<uint64_t>();
    return {low, get<uint64_t>()};
  }
  size_t position() const { return at_; }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

uint64_t section_alignment(size_t section) {
  return section == kTokenizerTables ? kPageBytes : kLineBytes;
}

uint64_t tensor_alignment(uint64_t bytes) {
  return bytes >= kPageAlignedFrom ? kPageBytes : kLineBytes;
}

// The header's hash is right, so a wrong offset or size is not an accident.
void check_sections(const LapHeader& header) {
  LapHeader expected = header;
  uint64_t left = header.file_bytes;
  for (size_t i = 0; i < kSectionCount; ++i) {
    const uint64_t bytes = header.sections[i].bytes;
    if (bytes > left)
      fail(ErrorCode::kBadData, "header: {} has {} bytes, more than the file holds",
           section_name(i), bytes);
    left -= bytes;  // so that the sum of all cannot overflow
  }
  place_sections(expected);
  for (size_t i = 0; i < kSectionCount; ++i)
    if (header.sections[i].offset != expected.sections[i].offset)
      fail(ErrorCode::kBadData, "header: {} at offset {}, expected {}", section_name(i),
           header.sections[i].offset, expected.sections[i].offset);
  if (header.data_offset != expected.data_offset || header.data_offset > header.file_bytes)
    fail(ErrorCode::kBadData, "header: data start at {}, expected {} in a file of {} bytes",
         header.data_offset, expected.data_offset, header.file_bytes);
  if (header.sections[kMetadata].bytes > kMaxMetadataBytes)
    fail(ErrorCode::kBadData, "header: {} bytes of metadata, at most {} are accepted",
         header.sections[kMetadata].bytes, kMaxMetadataBytes);
  if (header.tokenizer_json_bytes > kMaxTokenizerJsonBytes ||
      (header.tokenizer_json_bytes == 0) != (header.sections[kTokenizerJson].bytes == 0))
    fail(ErrorCode::kBadData, "header: {} stored bytes of tokenizer JSON unpack to {}, at most {}",
         header.sections[kTokenizerJson].bytes, header.tokenizer_json_bytes,
         kMaxTokenizerJsonBytes);
  if (header.n_tensors == 0 || header.n_tensors > kMaxLapTensors ||
      header.sections[kIndex].bytes < uint64_t{header.n_tensors} * kLapRecordBytes)
    fail(ErrorCode::kBadData, "header: {} tensors do not fit an index of {} bytes",
         header.n_tensors, header.sections[kIndex].bytes);
}

LapTensor decode_record(ByteReader& in, std::string_view names, size_t& names_used) {
  LapTensor t;
  const uint32_t name_offset = in.get<uint32_t>();
  const uint32_t name_bytes = in.get<uint32_t>();
  if (name_offset != names_used || name_bytes > names.size() - names_used)
    fail(ErrorCode::kBadData, "name at {} with {} bytes, expected at {} of {}", name_offset,
         name_bytes, names_used, names.size());
  t.name = names.substr(names_used, name_bytes);
  names_used += name_bytes;
  const uint8_t code = in.get<uint8_t>(), layout = in.get<uint8_t>();
  const uint8_t rotation = in.get<uint8_t>(), scale_type = in.get<uint8_t>();
  const uint8_t n_dims = in.get<uint8_t>();
  const bool reserved_zero = (in.get<uint8_t>() | in.get<uint8_t>() | in.get<uint8_t>()) == 0;
  if (code >= kCodeCount) fail(ErrorCode::kBadData, "unknown code {}", code);
  if (layout > static_cast<uint8_t>(Layout::kRowTable))
    fail(ErrorCode::kBadData, "unknown layout {}", layout);
  if (rotation != 0 && rotation != kRotationLog2)
    fail(ErrorCode::kBadData, "rotation {}, expected 0 or {}", rotation, kRotationLog2);
  if (scale_type > static_cast<uint8_t>(ScaleType::kBF16))
    fail(ErrorCode::kBadData, "unknown scale type {}", scale_type);
  if (n_dims < 1 || n_dims > 3) fail(ErrorCode::kBadData, "{} dimensions, expected 1 to 3", n_dims);
  if (!reserved_zero) fail(ErrorCode::kBadData, "reserved bytes are not zero");
  t.code = static_cast<Code>(code);
  t.layout = static_cast<Layout>(layout);
  t.rotated = rotation != 0;
  t.scale_type = static_cast<ScaleType>(scale_type);
  for (int i = 0; i < 3; ++i) {
    const int64_t n = in.get<int64_t>();
    if (i < n_dims)
      t.shape.push_back(n);
    else if (n != 0)
      fail(ErrorCode::kBadData, "dimension {} is {}, expected 0 beyond the shape", i, n);
  }
  t.record_width = in.get<int64_t>();
  t.offset = in.get<uint64_t>();
  t.bytes = in.get<uint64_t>();
  t.hash = in.get_hash();
  return t;
}

}  // namespace

std::string_view section_name(size_t section) {
  static constexpr std::string_view kNames[] = {"metadata", "tokenizer JSON", "tensor index",
                                                "tokenizer tables"};
  return kNames[section];
}

bool all_zero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

void place_sections(LapHeader& header) {
  uint64_t end = kLapHeaderBytes;
  for (size_t i = 0; i < kSectionCount; ++i) {
    LapPlace& section = header.sections[i];
    section.offset = section.bytes == 0 ? 0 : align_up(end, section_alignment(i));
    if (section.bytes > 0) end = section.offset + section.bytes;
  }
  header.data_offset = align_up(end, kLineBytes);
}

uint64_t place_tensors(std::span<LapTensor> tensors, uint64_t data_offset) {
  uint64_t end = data_offset;
  for (LapTensor& t : tensors) {
    t.bytes = stored_bytes(t);
    t.offset = align_up(end, tensor_alignment(t.bytes));
    end = t.offset + t.bytes;
  }
  return end;
}

uint64_t planned_file_bytes(std::vector<LapTensor> tensors, uint64_t data_offset) {
  return place_tensors(tensors, data_offset);
}

std::vector<uint8_t> encode_header(const LapHeader& header) {
  ByteWriter out(kLapHeaderBytes);
  out.put_text(kLapMagic);
  out.put(kLapVersion);
  out.put(kLapHeaderBytes);
  out.put(header.file_bytes);
  out.put(header.data_offset);
  out.put(header.tokenizer_json_bytes);
  out.put(header.n_tensors);
  out.put(uint32_t{0});
  for (const LapPlace& section : header.sections) {
    out.put(section.offset);
    out.put(section.bytes);
    out.put(section.hash);
  }
  out.zeros_until(kHeaderHashOffset);
  out.put(hash_bytes(out.bytes()));
  return out.take();
}

LapHeader decode_header(std::span<const uint8_t> bytes, uint64_t actual_bytes) {
  if (bytes.size() < kLapMagic.size() ||
      std::memcmp(bytes.data(), kLapMagic.data(), kLapMagic.size()) != 0)
    fail(ErrorCode::kBadData, "header: not a .lap file, it does not begin with \"{}\"", kLapMagic);
  if (bytes.size() < kLapHeaderBytes)
    fail(ErrorCode::kBadData, "header: the file has {} bytes, the header alone has {}; truncated",
         bytes.size(), kLapHeaderBytes);
  ByteReader in(bytes.first(kLapHeaderBytes));
  in.get<uint64_t>();  // the magic
  const uint32_t version = in.get<uint32_t>();
  if (version != kLapVersion)
    fail(ErrorCode::kBadData, "header: version {}, this program reads {}; a newer lapidary may",
         version, kLapVersion);
  const uint32_t header_bytes = in.get<uint32_t>();
  if (header_bytes != kLapHeaderBytes)
    fail(ErrorCode::kBadData, "header: says it has {} bytes, expected {}", header_bytes,
         kLapHeaderBytes);
  ByteReader hash_in(bytes.subspan(kHeaderHashOffset, 16));
  if (hash_in.get_hash() != hash_bytes(bytes.first(kHeaderHashOffset)))
    fail(ErrorCode::kBadData, "header: damaged, its hash does not fit; get the file again");
  LapHeader header;
  header.file_bytes = in.get<uint64_t>();
  header.data_offset = in.get<uint64_t>();
  header.tokenizer_json_bytes = in.get<uint64_t>();
  header.n_tensors = in.get<uint32_t>();
  const uint32_t reserved = in.get<uint32_t>();
  for (LapPlace& section : header.sections) {
    section.offset = in.get<uint64_t>();
    section.bytes = in.get<uint64_t>();
    section.hash = in.get_hash();
  }
  const size_t end = in.position();
  if (reserved != 0 || !all_zero(bytes.subspan(end, kHeaderHashOffset - end)))
    fail(ErrorCode::kBadData, "header: reserved bytes are not zero");
  if (header.file_bytes != actual_bytes)
    fail(ErrorCode::kBadData, "header: the file should have {} bytes, it has {}; get it again",
         header.file_bytes, actual_bytes);
  check_sections(header);
  return header;
}

std::vector<uint8_t> encode_index(std::span<const LapTensor> tensors) {
  ByteWriter out(tensors.size() * (kLapRecordBytes + 64));
  uint32_t name_offset = 0;
  for (const LapTensor& t : tensors) {
    const uint32_t name_bytes = static_cast<uint32_t>(t.name.size());
    out.put(name_offset);
    out.put(name_bytes);
    name_offset += name_bytes;
    out.put(static_cast<uint8_t>(t.code));
    out.put(static_cast<uint8_t>(t.layout));
    out.put(t.rotated ? kRotationLog2 : uint8_t{0});
    out.put(static_cast<uint8_t>(t.scale_type));
    out.put(static_cast<uint32_t>(t.shape.size()));  // one byte, and three reserved
    for (size_t i = 0; i < 3; ++i) out.put(i < t.shape.size() ? t.shape[i] : int64_t{0});
    out.put(t.record_width);
    out.put(t.offset);
    out.put(t.bytes);
    out.put(t.hash);
  }
  for (const LapTensor& t : tensors) out.put_text(t.name);
  return out.take();
}

std::vector<LapTensor> decode_index(std::span<const uint8_t> bytes, uint32_t n_tensors) {
  const size_t records_bytes = size_t{n_tensors} * kLapRecordBytes;
  LAPIDARY_CHECK(records_bytes <= bytes.size());
  const std::string_view names(reinterpret_cast<const char*>(bytes.data()) + records_bytes,
                               bytes.size() - records_bytes);
  ByteReader in(bytes.first(records_bytes));
  std::vector<LapTensor> tensors;
  tensors.reserve(n_tensors);
  size_t names_used = 0;
  for (uint32_t i = 0; i < n_tensors; ++i)
    with_context(fmt::format("tensor index: entry {}", i), [&] {
      tensors.push_back(decode_record(in, names, names_used));
      check_tensor(tensors.back());
    });
  if (names_used != names.size())
    fail(ErrorCode::kBadData, "tensor index: {} bytes after the last name",
         names.size() - names_used);
  return tensors;
}

void check_places(std::span<const LapTensor> tensors, const LapHeader& header) {
  uint64_t end = header.data_offset;
  for (const LapTensor& t : tensors) {
    const uint64_t bytes = stored_bytes(t);
    const uint64_t offset = align_up(end, tensor_alignment(bytes));
    if (t.bytes != bytes || t.offset != offset)
      fail(ErrorCode::kBadData, "tensor index: {}: {} bytes at {}, expected {} at {}", t.name,
           t.bytes, t.offset, bytes, offset);
    if (offset > header.file_bytes || bytes > header.file_bytes - offset)
      fail(ErrorCode::kBadData, "tensor index: {}: {} bytes at {} lie beyond the file's end {}",
           t.name, bytes, offset, header.file_bytes);
    end = offset + bytes;
  }
  if (end != header.file_bytes)
    fail(ErrorCode::kBadData, "tensor index: the tensors end at {}, the file at {}", end,
         header.file_bytes);
}

void check_tensor(const LapTensor& t) {
  const auto printable = [](char c) { return c > ' ' && c <= '~'; };
  if (t.name.empty() || t.name.size() > kMaxNameBytes ||
      !std::all_of(t.name.begin(), t.name.end(), printable))
    fail(ErrorCode::kBadData, "a tensor's name must be 1 to {} printable ASCII characters",
         kMaxNameBytes);
  const auto refuse = [&](std::string_view why) {
    fail(ErrorCode::kBadData, "{}: {}", t.name, why);
  };
  if (t.shape.empty() || t.shape.size() > 3) refuse("a shape must have 1 to 3 dimensions");
  int64_t elements = 1;
  for (const int64_t n : t.shape) {
    if (n < 1 || n >= kMaxElements / elements) refuse("the shape is empty or too large");
    elements *= n;
  }
  const CodeTraits& code = traits(t.code);
  if (t.layout == Layout::kPlain && !code.is_float) refuse("a plain tensor must have a float code");
  if (t.layout == Layout::kPanels && (code.is_float || t.shape.size() < 2))
    refuse("panels need a packed code and at least 2 dimensions");
  if (t.layout == Layout::kRowTable) {
    if (t.shape.size() != 2 || t.record_width < 1 || t.shape[1] % t.record_width != 0)
      refuse("a row table needs 2 dimensions, the second a multiple of the record width");
    if (code.is_trellis && t.record_width % kGroupK != 0)
      refuse("records of a trellis code need a multiple of 32 weights");
  } else if (t.record_width != 0) {
    refuse("only row tables have a record width");
  }
  if (t.rotated && t.layout != Layout::kPanels) refuse("only panels can be rotated");
  if (t.scale_type == ScaleType::kBF16 && t.code != Code::kW4x && t.code != Code::kW8x)
    refuse("only w4x and w8x have bf16 scales");
}

int64_t LapTensor::elements() const {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

uint64_t stored_bytes(const LapTensor& t) {
  check_tensor(t);
  if (t.layout == Layout::kPlain)
    return static_cast<uint64_t>(t.elements()) * static_cast<uint64_t>(traits(t.code).bits / 8);
  if (t.layout == Layout::kRowTable)
    return static_cast<uint64_t>(
        row_table_geometry(t.code, t.shape[0], t.shape[1] / t.record_width, t.record_width).bytes);
  const size_t n = t.shape.size();
  const PackedGeometry g = packed_geometry(t.code, t.shape[n - 2], t.shape[n - 1]);
  const uint64_t experts = static_cast<uint64_t>(n == 3 ? t.shape[0] : 1);
  return experts * static_cast<uint64_t>(g.code_bytes + g.meta_bytes);
}

}  // namespace lapidary
