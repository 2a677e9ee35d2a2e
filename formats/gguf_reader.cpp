// GGUF in, distrustful: what a header claims is compared with the bytes that are there first.
//
// Known traps, all found in public parsers: counts whose product with a size wraps around, string
// lengths beyond the file, arrays inside arrays, alignments of zero, offsets that wrap, dimensions
// whose product wraps, keys or tensors that come twice, tensors that overlap.
#include <algorithm>
#include <cstring>
#include <set>

#include "formats/error.h"
#include "formats/gguf.h"
#include "formats/json_guard.h"

namespace lapidary {
namespace {

constexpr size_t kScalarTypes = std::variant_size_v<GgufValue> / 2;
constexpr uint32_t kArrayType = 9;
constexpr uint64_t kMaxKeyBytes = 1 << 16;   // the specification's limit
constexpr uint64_t kMaxAlignment = 1 << 20;  // far above what anyone uses
constexpr int64_t kMaxElements = int64_t{1} << 48;

class Cursor {
 public:
  Cursor(std::span<const uint8_t> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  template <class T>
  T get(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }
  std::string text(const char* what, uint64_t limit) {
    const auto length = get<uint64_t>(what);
    if (length > limit)
      fail(ErrorCode::kBadData, "{}: {} at byte {} is {} bytes long, at most {} expected", path_,
           what, at_, length, limit);
    const std::span<const uint8_t> bytes = take(length, what);
    return {bytes.begin(), bytes.end()};
  }
  // A count of things that take at least `each` bytes.
  uint64_t count(const char* what, uint64_t each) {
    const auto n = get<uint64_t>(what);
    if (n > left() / each)
      fail(ErrorCode::kBadData, "{}: {} {}, but only {} bytes follow byte {}", path_, n, what,
           left(), at_);
    return n;
  }
  // A key or a tensor's name: goes into messages, so it may not break lines.
  std::string name(const char* what) {
    std::string name = text(what, kMaxKeyBytes);
    for (const char c : name)
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
        fail(ErrorCode::kBadData, "{}: {} before byte {} has control characters", path_, what, at_);
    return name;
  }
  uint64_t left() const { return bytes_.size() - at_; }
  uint64_t at() const { return at_; }
  const std::string& path() const { return path_; }

 private:
  std::span<const uint8_t> take(uint64_t n, const char* what) {
    if (n > left()) fail(ErrorCode::kBadData, "{}: ends within {} at byte {}", path_, what, at_);
    at_ += n;
    return bytes_.subspan(at_ - n, n);
  }

  std::span<const uint8_t> bytes_;
  std::string path_;
  uint64_t at_ = 0;
};

template <class T>
T read_scalar(Cursor* in) {
  if constexpr (std::is_same_v<T, std::string>) {
    return in->text("a text", in->left());
  } else if constexpr (std::is_same_v<T, bool>) {
    const auto byte = in->get<uint8_t>("a boolean");
    if (byte > 1)
      fail(ErrorCode::kBadData, "{}: a boolean at byte {} is {}", in->path(), in->at(), byte);
    return byte == 1;
  } else {
    return in->get<T>("a number");
  }
}

template <class T>
std::vector<T> read_array(Cursor* in) {
  const uint64_t n = in->count("array elements", std::is_same_v<T, std::string> ? 8 : sizeof(T));
  std::vector<T> values;
  values.reserve(n);
  for (uint64_t i = 0; i < n; ++i) values.push_back(read_scalar<T>(in));
  return values;
}

// Reads alternative `place` of GgufValue: the compiler writes out all 24.
template <size_t place = 0>
GgufValue read_value(size_t wanted, Cursor* in) {
  if constexpr (place == std::variant_size_v<GgufValue>) {
    LAPIDARY_CHECK(false);
  } else {
    if (place != wanted) return read_value<place + 1>(wanted, in);
    using Value = std::variant_alternative_t<place, GgufValue>;
    if constexpr (place < kScalarTypes)
      return GgufValue(std::in_place_index<place>, read_scalar<Value>(in));
    else
      return GgufValue(std::in_place_index<place>, read_array<typename Value::value_type>(in));
  }
}

GgufPair read_pair(Cursor* in) {
  GgufPair pair;
  pair.key = in->name("a key");
  return with_context("key " + excerpt(pair.key), [&] {
    uint32_t number = in->get<uint32_t>("a value's type");
    const bool array = number == kArrayType;
    if (array) number = in->get<uint32_t>("an array's type");
    if (number == kArrayType)
      fail(ErrorCode::kBadData, "{}: arrays of arrays are not supported", in->path());
    if (number > kScalarTypes)
      fail(ErrorCode::kBadData, "{}: value type {} is not known", in->path(), number);
    const size_t place = number < kArrayType ? number : number - 1;
    pair.value = read_value(place + (array ? kScalarTypes : 0), in);
    return std::move(pair);
  });
}

GgufTensor read_tensor(Cursor* in, uint64_t alignment) {
  GgufTensor t;
  t.name = in->name("a tensor's name");
  return with_context("tensor " + excerpt(t.name), [&] {
    const auto n_dims = in->get<uint32_t>("a number of dimensions");
    if (n_dims < 1 || n_dims > 4)
      fail(ErrorCode::kBadData, "{}: {} dimensions, 1 to 4 expected", in->path(), n_dims);
    int64_t elements = 1;
    for (uint32_t i = 0; i < n_dims; ++i) {
      const auto n = in->get<uint64_t>("a dimension");
      if (n < 1 || n > static_cast<uint64_t>(kMaxElements / elements))
        fail(ErrorCode::kBadData, "{}: dimension {} of {} makes an impossible size", in->path(), i,
             n);
      elements *= static_cast<int64_t>(n);
      t.shape.insert(t.shape.begin(), static_cast<int64_t>(n));
    }
    const auto number = in->get<uint32_t>("a tensor type");
    const std::optional<GgmlTraits> type = ggml_traits(number);
    if (!type) fail(ErrorCode::kBadData, "{}: tensor type {} is not supported", in->path(), number);
    t.type = type->type;
    if (t.k() % type->block_values != 0)
      fail(ErrorCode::kBadData, "{}: rows of {} are not whole blocks of {}", in->path(), t.k(),
           type->block_values);
    t.offset = in->get<uint64_t>("an offset");
    if (t.offset % alignment != 0)
      fail(ErrorCode::kBadData, "{}: offset {} is not a multiple of {}", in->path(), t.offset,
           alignment);
    return std::move(t);
  });
}

uint64_t read_alignment(const GgufReader& reader, const std::string& path) {
  const GgufValue* value = reader.find("general.alignment");
  if (!value) return kGgufAlignment;
  const auto* alignment = std::get_if<uint32_t>(value);
  if (!alignment || *alignment == 0 || (*alignment & (*alignment - 1)) != 0 ||
      *alignment > kMaxAlignment)
    fail(ErrorCode::kBadData, "{}: general.alignment is not a power of two up to {}", path,
         kMaxAlignment);
  return *alignment;
}

// Every tensor inside the data, none over another.
void check_places(const std::vector<GgufTensor>& tensors, uint64_t data_bytes,
                  const std::string& path) {
  std::vector<const GgufTensor*> order;
  for (const GgufTensor& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return a->offset < b->offset; });
  uint64_t end = 0;
  for (const GgufTensor* t : order) {
    if (t->offset < end)
      fail(ErrorCode::kBadData, "{}: tensor {} overlaps the one before", path, excerpt(t->name));
    if (t->offset > data_bytes || t->bytes() > data_bytes - t->offset)
      fail(ErrorCode::kBadData, "{}: tensor {} needs {} bytes at {}, the data end at {}", path,
           excerpt(t->name), t->bytes(), t->offset, data_bytes);
    end = t->offset + t->bytes();
  }
}

}  // namespace

GgufReader::GgufReader(const std::string& path) : file_(path) {
  Cursor in(file_.bytes(), path);
  if (in.get<std::array<char, 4>>("the magic") != std::array<char, 4>{'G', 'G', 'U', 'F'})
    fail(ErrorCode::kBadData, "{}: not a GGUF file", path);
  const auto version = in.get<uint32_t>("the version");
  if (version != 2 && version != 3)
    fail(ErrorCode::kBadData, "{}: GGUF version {} (or of a big-endian machine); 2 and 3 are read",
         path, version);
  constexpr uint64_t kSmallestTensor = 8 + 4 + 8 + 4 + 8, kSmallestPair = 8 + 4 + 1;
  const uint64_t n_tensors = in.count("tensors", kSmallestTensor);
  const uint64_t n_pairs = in.count("key-value pairs", kSmallestPair);

  std::set<std::string> seen;
  for (uint64_t i = 0; i < n_pairs; ++i) {
    pairs_.push_back(read_pair(&in));
    if (!seen.insert(pairs_.back().key).second)
      fail(ErrorCode::kBadData, "{}: key {} comes twice", path, excerpt(pairs_.back().key));
  }
  const uint64_t alignment = read_alignment(*this, path);
  seen.clear();
  for (uint64_t i = 0; i < n_tensors; ++i) {
    tensors_.push_back(read_tensor(&in, alignment));
    if (!seen.insert(tensors_.back().name).second)
      fail(ErrorCode::kBadData, "{}: tensor {} comes twice", path, excerpt(tensors_.back().name));
  }
  const uint64_t header_end = in.at();
  data_start_ = (header_end + alignment - 1) / alignment * alignment;
  const uint64_t size = file_.bytes().size();
  if (data_start_ > size) {
    if (!tensors_.empty()) fail(ErrorCode::kBadData, "{}: ends before the tensor data", path);
    data_start_ = size;
  }
  check_places(tensors_, size - data_start_, path);
}

const GgufValue* GgufReader::find(std::string_view key) const {
  const auto found =
      std::find_if(pairs_.begin(), pairs_.end(), [&](const GgufPair& p) { return p.key == key; });
  return found == pairs_.end() ? nullptr : &found->value;
}

std::span<const uint8_t> GgufReader::data(const GgufTensor& tensor) const {
  return file_.bytes().subspan(data_start_ + tensor.offset, tensor.bytes());
}

void GgufReader::release(std::span<const uint8_t> bytes) const {
  file_.release(static_cast<size_t>(bytes.data() - file_.bytes().data()), bytes.size());
}

}  // namespace lapidary
