// GGUF out: the header in one piece, then the data as it comes.
#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "formats/error.h"
#include "formats/gguf.h"

namespace lapidary {
namespace {

constexpr size_t kScalarTypes = std::variant_size_v<GgufValue> / 2;
constexpr uint32_t kArrayType = 9;

// The number of a scalar type from its place in GgufValue.
uint32_t type_number(size_t place) {
  return static_cast<uint32_t>(place < kArrayType ? place : place + 1);
}

class Bytes {
 public:
  template <class T>
  void put(T value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof(T));
    std::memcpy(&bytes_[at], &value, sizeof(T));
  }
  void put(bool value) { put(static_cast<uint8_t>(value ? 1 : 0)); }
  void put(const std::string& text) {
    put(static_cast<uint64_t>(text.size()));
    bytes_.insert(bytes_.end(), text.begin(), text.end());
  }
  template <class T>
  void put(const std::vector<T>& values) {
    put(static_cast<uint64_t>(values.size()));
    for (const auto& value : values) put(static_cast<const T&>(value));
  }
  void pad(uint64_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
  }
  std::span<const uint8_t> view() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

void put_pair(const GgufPair& pair, Bytes* out) {
  out->put(pair.key);
  const size_t place = pair.value.index();
  if (place < kScalarTypes) {
    out->put(type_number(place));
  } else {
    out->put(kArrayType);
    out->put(type_number(place - kScalarTypes));
  }
  std::visit([&](const auto& value) { out->put(value); }, pair.value);
}

uint64_t aligned(uint64_t bytes) {
  return (bytes + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment;
}

// Header, pairs and infos, padded; fills in the tensors' offsets. `path` names the file in errors.
Bytes gguf_head(const std::string& path, const std::vector<GgufPair>& pairs,
                std::vector<GgufTensor>* tensors) {
  Bytes head;
  head.put(std::array<char, 4>{'G', 'G', 'U', 'F'});
  head.put(uint32_t{3});
  head.put(static_cast<uint64_t>(tensors->size()));
  head.put(static_cast<uint64_t>(pairs.size()));
  std::set<std::string> seen;
  for (const GgufPair& pair : pairs) {
    if (!seen.insert(pair.key).second)
      fail(ErrorCode::kBadData, "{}: key {} given twice", path, pair.key);
    put_pair(pair, &head);
  }
  seen.clear();
  uint64_t offset = 0;
  for (GgufTensor& t : *tensors) {
    if (!seen.insert(t.name).second)
      fail(ErrorCode::kBadData, "{}: tensor {} given twice", path, t.name);
    if (t.k() % traits(t.type).block_values != 0)
      fail(ErrorCode::kBadData, "{}: tensor {} as {}: rows of {} are not whole blocks of {}", path,
           t.name, traits(t.type).name, t.k(), traits(t.type).block_values);
    t.offset = offset;
    offset += aligned(t.bytes());
    head.put(t.name);
    head.put(static_cast<uint32_t>(t.shape.size()));
    for (auto n = t.shape.rbegin(); n != t.shape.rend(); ++n) head.put(static_cast<uint64_t>(*n));
    head.put(static_cast<uint32_t>(t.type));
    head.put(t.offset);
  }
  head.pad(kGgufAlignment);
  return head;
}

}  // namespace

int64_t GgufTensor::rows() const {
  int64_t n = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
  return n;
}

uint64_t GgufTensor::row_bytes() const { return static_cast<uint64_t>(block_bytes(type, k())); }

GgufWriter::GgufWriter(const std::string& path, const std::vector<GgufPair>& pairs,
                       std::vector<GgufTensor> tensors)
    : file_(path), tensors_(std::move(tensors)) {
  static_assert(std::endian::native == std::endian::little);
  file_.write(gguf_head(path, pairs, &tensors_).view());
}

uint64_t gguf_overhead_bytes(const std::vector<GgufPair>& pairs, std::vector<GgufTensor> tensors) {
  return gguf_head("GGUF", pairs, &tensors).view().size() + tensors.size() * (kGgufAlignment - 1);
}

void GgufWriter::append(std::span<const uint8_t> bytes) {
  LAPIDARY_CHECK(current_ < tensors_.size());
  const uint64_t total = tensors_[current_].bytes();
  LAPIDARY_CHECK(bytes.size() <= total - written_);
  file_.write(bytes);
  written_ += bytes.size();
  if (written_ < total) return;
  static constexpr std::array<uint8_t, kGgufAlignment> kZeros{};
  file_.write(std::span(kZeros).first(aligned(total) - total));
  ++current_;
  written_ = 0;
}

uint64_t GgufWriter::commit() {
  LAPIDARY_CHECK(current_ == tensors_.size());
  const uint64_t bytes = file_.position();
  file_.commit();
  return bytes;
}

}  // namespace lapidary
