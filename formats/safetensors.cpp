// The safetensors reader: nothing in a header is believed before it is checked against the file's
// size and the other entries. The writer is in safetensors_writer.cpp.
#include "formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "formats/error.h"
#include "formats/json_guard.h"

namespace lapidary {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are read as they lie");

using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100 << 20;  // the limit of the reference implementation
constexpr uint64_t kMaxIndexBytes = 64 << 20;
constexpr int kMaxDepth = 8;
constexpr size_t kMaxDimensions = 8;

Json parse_object(const std::string& text, const std::string& where) {
  guard_json(text, where, kMaxDepth);
  Json json = Json::parse(text);
  if (!json.is_object()) fail(ErrorCode::kBadData, "{}: header is not a JSON object", where);
  return json;
}

uint64_t checked_number(const Json& value, const std::string& what) {
  if (!value.is_number_unsigned())
    fail(ErrorCode::kBadData, "{}: {} is not a whole number of 0 or more", what,
         excerpt(value.dump()));
  return value.get<uint64_t>();
}

// shape product * dtype bytes, or an Error when it exceeds 2^62 on the way.
uint64_t checked_bytes(const std::vector<int64_t>& shape, DType type, const std::string& what) {
  constexpr uint64_t kLimit = uint64_t{1} << 62;
  uint64_t bytes = static_cast<uint64_t>(dtype_bytes(type));
  for (const int64_t n : shape) {
    if (n != 0 && bytes > kLimit / static_cast<uint64_t>(n))
      fail(ErrorCode::kBadData, "{}: the shape is too large", what);
    bytes *= static_cast<uint64_t>(n);
  }
  return bytes;
}

SafetensorsEntry parse_entry(const std::string& name, const Json& json, const std::string& path) {
  const std::string what = fmt::format("{}: tensor \"{}\"", path, excerpt(name));
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets"))
    fail(ErrorCode::kBadData, "{}: expected dtype, shape and data_offsets", what);
  SafetensorsEntry entry;
  entry.name = name;
  const Json& dtype = json["dtype"];
  const auto type = dtype.is_string() ? parse_dtype(dtype.get<std::string>()) : std::nullopt;
  if (!type)
    fail(ErrorCode::kBadData,
         "{}: dtype {} is not supported (F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL)", what,
         excerpt(dtype.dump()));
  entry.dtype = *type;
  const Json& shape = json["shape"];
  if (!shape.is_array() || shape.size() > kMaxDimensions)
    fail(ErrorCode::kBadData, "{}: shape is not a list of at most 8 numbers", what);
  for (const Json& n : shape) {
    const uint64_t size = checked_number(n, what + " shape");
    if (size > (uint64_t{1} << 48)) fail(ErrorCode::kBadData, "{}: the shape is too large", what);
    entry.shape.push_back(static_cast<int64_t>(size));
  }
  const Json& offsets = json["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    fail(ErrorCode::kBadData, "{}: data_offsets are not two numbers", what);
  const uint64_t begin = checked_number(offsets[0], what), end = checked_number(offsets[1], what);
  const uint64_t expected = checked_bytes(entry.shape, entry.dtype, what);
  if (end < begin || end - begin != expected)
    fail(ErrorCode::kBadData, "{}: data_offsets [{}, {}] do not hold the {} bytes of its shape",
         what, begin, end, expected);
  entry.offset = begin;
  entry.bytes = expected;
  return entry;
}

// REQUIRES: sorted by offset, then size, so that empty tensors come before what starts there.
void check_overlaps(const std::vector<SafetensorsEntry>& entries, const std::string& path) {
  for (size_t i = 1; i < entries.size(); ++i)
    if (entries[i].offset < entries[i - 1].offset + entries[i - 1].bytes)
      fail(ErrorCode::kBadData, "{}: tensors \"{}\" and \"{}\" overlap", path,
           excerpt(entries[i - 1].name), excerpt(entries[i].name));
}

// Entries of one file, offsets absolute.
std::vector<SafetensorsEntry> parse_file(const ReadFile& file, size_t shard,
                                         std::map<std::string, std::string>& metadata) {
  const std::string& path = file.path();
  if (file.size_bytes() < 8)
    fail(ErrorCode::kBadData, "{}: {} bytes is too short for safetensors", path, file.size_bytes());
  uint8_t prefix[8];
  file.read_at(0, prefix);
  const uint64_t header_bytes = std::bit_cast<uint64_t>(prefix);
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size_bytes() - 8)
    fail(ErrorCode::kBadData,
         "{}: header of {} bytes in a file of {}; not safetensors, or a broken download", path,
         header_bytes, file.size_bytes());
  std::string text(header_bytes, '\0');
  file.read_at(8, {reinterpret_cast<uint8_t*>(text.data()), text.size()});

  const uint64_t data_bytes = file.size_bytes() - 8 - header_bytes;
  std::vector<SafetensorsEntry> entries;
  const Json header = parse_object(text, path);
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") {
      if (!json.is_object()) fail(ErrorCode::kBadData, "{}: __metadata__ is not an object", path);
      for (const auto& [key, value] : json.items())
        metadata[key] = value.is_string() ? value.get<std::string>() : value.dump();
      continue;
    }
    SafetensorsEntry entry = parse_entry(name, json, path);
    if (entry.offset > data_bytes || entry.bytes > data_bytes - entry.offset)
      fail(ErrorCode::kBadData,
           "{}: tensor \"{}\" ends at byte {} of {} bytes of data; the file is truncated", path,
           name, entry.offset + entry.bytes, data_bytes);
    entry.offset += 8 + header_bytes;
    entry.shard = shard;
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  check_overlaps(entries, path);
  return entries;
}

// Of a file in the same folder. A NUL would end the name early when it is opened.
bool is_plain_name(const std::string& name) {
  const auto is_odd = [](unsigned char c) { return c < 0x20 || c == '/'; };
  return !name.empty() && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), is_odd);
}

// Tensor name -> shard file name.
std::map<std::string, std::string> read_index(const std::string& path) {
  const Json json = parse_object(read_text(path, kMaxIndexBytes), path);
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) fail(ErrorCode::kBadData, "{}: no weight_map", path);
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_plain_name(file.get<std::string>()))
      fail(ErrorCode::kBadData, "{}: shard {} of \"{}\" is not a plain file name", path,
           excerpt(file.dump()), excerpt(tensor));
    shards[tensor] = file.get<std::string>();
  }
  return shards;
}

template <class T, class F>
void convert_all(std::span<const uint8_t> bytes, std::vector<float>& out, F to_float) {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = to_float(value);
  }
}

}  // namespace

int64_t SafetensorsEntry::elements() const {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

SafetensorsSet SafetensorsSet::open_file(const std::string& path) {
  SafetensorsSet set;
  set.files_.emplace_back(path);
  set.entries_ = parse_file(set.files_.front(), 0, set.file_metadata_);
  for (size_t i = 0; i < set.entries_.size(); ++i) set.by_name_[set.entries_[i].name] = i;
  return set;
}

SafetensorsSet SafetensorsSet::open_folder(const std::string& folder) {
  const std::string index = folder + "/model.safetensors.index.json";
  if (!path_exists(index)) {
    if (!path_exists(folder + "/model.safetensors"))
      fail(ErrorCode::kNotFound, "{}: neither model.safetensors nor model.safetensors.index.json",
           folder);
    return open_file(folder + "/model.safetensors");
  }
  SafetensorsSet set;
  const std::map<std::string, std::string> shard_of = read_index(index);
  std::set<std::string> names;
  for (const auto& [tensor, shard] : shard_of) names.insert(shard);
  for (const std::string& name : names) {
    const std::string path = folder + "/" + name;
    if (!path_exists(path))
      fail(ErrorCode::kNotFound,
           "{}: shard is missing, {} names it; download the rest of the model", path, index);
    set.files_.emplace_back(path);
    for (SafetensorsEntry& entry :
         parse_file(set.files_.back(), set.files_.size() - 1, set.file_metadata_)) {
      if (set.by_name_.count(entry.name))
        fail(ErrorCode::kBadData, "{}: tensor \"{}\" stands in another shard too", path,
             entry.name);
      const auto expected = shard_of.find(entry.name);
      if (expected == shard_of.end() || expected->second != name)
        fail(ErrorCode::kBadData, "{}: tensor \"{}\" does not stand there in {}", path, entry.name,
             index);
      set.by_name_[entry.name] = set.entries_.size();
      set.entries_.push_back(std::move(entry));
    }
  }
  for (const auto& [tensor, shard] : shard_of)
    if (!set.by_name_.count(tensor))
      fail(ErrorCode::kBadData, "{}/{}: tensor \"{}\" is missing, {} names it", folder, shard,
           tensor, index);
  return set;
}

const SafetensorsEntry* SafetensorsSet::find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &entries_[it->second];
}

void SafetensorsSet::read(const SafetensorsEntry& entry, uint64_t first,
                          std::span<uint8_t> out) const {
  LAPIDARY_CHECK(first <= entry.bytes && out.size() <= entry.bytes - first);
  files_[entry.shard].read_at(entry.offset + first, out);
}

std::vector<float> SafetensorsSet::read_floats(const SafetensorsEntry& entry) const {
  std::vector<uint8_t> bytes(entry.bytes);
  read(entry, 0, bytes);
  std::vector<float> out(static_cast<size_t>(entry.elements()));
  const auto cast = [](auto value) { return static_cast<float>(value); };
  switch (entry.dtype) {
    case DType::kF64:
      convert_all<double>(bytes, out, cast);
      break;
    case DType::kF32:
      convert_all<float>(bytes, out, cast);
      break;
    case DType::kF16:
      convert_all<uint16_t>(bytes, out, f16_to_float);
      break;
    case DType::kBF16:
      convert_all<uint16_t>(bytes, out, bf16_to_float);
      break;
    case DType::kI64:
      convert_all<int64_t>(bytes, out, cast);
      break;
    case DType::kI32:
      convert_all<int32_t>(bytes, out, cast);
      break;
    case DType::kI16:
      convert_all<int16_t>(bytes, out, cast);
      break;
    case DType::kI8:
      convert_all<int8_t>(bytes, out, cast);
      break;
    case DType::kU8:
      convert_all<uint8_t>(bytes, out, cast);
      break;
    case DType::kU32:
      convert_all<uint32_t>(bytes, out, cast);
      break;
    case DType::kBool:
      fail(ErrorCode::kBadData, "{}: tensor \"{}\" is BOOL, expected numbers",
           files_[entry.shard].path(), entry.name);
  }
  return out;
}

std::vector<int32_t> SafetensorsSet::read_ints(const SafetensorsEntry& entry) const {
  std::vector<uint8_t> bytes(entry.bytes);
  read(entry, 0, bytes);
  std::vector<int32_t> out(static_cast<size_t>(entry.elements()));
  if (entry.dtype == DType::kI32) {
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
  }
  if (entry.dtype != DType::kI64)
    fail(ErrorCode::kBadData, "{}: tensor \"{}\" is {}, expected I32 or I64",
         files_[entry.shard].path(), entry.name, dtype_name(entry.dtype));
  for (size_t i = 0; i < out.size(); ++i) {
    int64_t value;
    std::memcpy(&value, bytes.data() + 8 * i, 8);
    if (value < INT32_MIN || value > INT32_MAX)
      fail(ErrorCode::kBadData, "{}: tensor \"{}\" holds {}, which needs more than 32 bits",
           files_[entry.shard].path(), entry.name, value);
    out[i] = static_cast<int32_t>(value);
  }
  return out;
}

}  // namespace lapidary
