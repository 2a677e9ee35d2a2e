// GGUF, the file of llama.cpp: typed key-value pairs, tensor infos, aligned data.
//
// Layout (version 3; 2 is read too), little-endian: "GGUF", u32 version, u64 tensors, u64 pairs;
// the pairs (string key, u32 type, value; arrays: u32 element type, u64 count, elements); the infos
// (string name, u32 dimensions, u64 each with the contiguous one first, u32 type, u64 offset into
// the data); zero bytes up to the alignment; the data, each tensor aligned. Strings are u64 length
// and bytes. Source: ggml's gguf.h and docs/gguf.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "formats/file.h"
#include "formats/ggml_type.h"

namespace lapidary {

template <class... T>
using ScalarOrArray = std::variant<T..., std::vector<T>...>;
// A value's place in this list is its type's number, except that 64-bit numbers come after type 9,
// "array".
using GgufValue = ScalarOrArray<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                                std::string, uint64_t, int64_t, double>;

struct GgufPair {
  std::string key;
  GgufValue value;
  bool operator==(const GgufPair&) const = default;
};

struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape;  // ours: the contiguous dimension last, 1 to 4 of them
  GgmlType type = GgmlType::kF32;
  uint64_t offset = 0;  // into the data; filled by the writer
  int64_t k() const { return shape.back(); }
  int64_t rows() const;
  uint64_t row_bytes() const;
  uint64_t bytes() const { return static_cast<uint64_t>(rows()) * row_bytes(); }
};

inline constexpr uint64_t kGgufAlignment = 32;

// Reads a file from strangers: every count, length, type, offset and product is checked against
// what the file can hold before it is believed.
class GgufReader {
 public:
  // Throws kNotFound, kIo, or kBadData naming the place.
  explicit GgufReader(const std::string& path);

  const std::vector<GgufPair>& pairs() const { return pairs_; }
  const GgufValue* find(std::string_view key) const;  // null: not there
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  std::span<const uint8_t> data(const GgufTensor& tensor) const;  // mapped
  // Lets the system forget these bytes of data(); they can be read again.
  void release(std::span<const uint8_t> bytes) const;

 private:
  MappedFile file_;
  std::vector<GgufPair> pairs_;
  std::vector<GgufTensor> tensors_;
  uint64_t data_start_ = 0;
};

// What a file of these pairs and tensors has beside the tensors' data at most, padding included.
uint64_t gguf_overhead_bytes(const std::vector<GgufPair>& pairs, std::vector<GgufTensor> tensors);

// Writes a file whole or not at all: declare everything, then append the data tensor by tensor.
class GgufWriter {
 public:
  // Throws kBadData for a key or a name given twice and for rows that are not whole blocks.
  GgufWriter(const std::string& path, const std::vector<GgufPair>& pairs,
             std::vector<GgufTensor> tensors);
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  // The next bytes of the data; padding between tensors is the writer's business.
  void append(std::span<const uint8_t> bytes);
  uint64_t position() const { return file_.position(); }
  // Syncs and renames. REQUIRES: every byte of every tensor was given.
  uint64_t commit();

 private:
  AtomicFile file_;
  std::vector<GgufTensor> tensors_;
  size_t current_ = 0;
  uint64_t written_ = 0;  // of the current tensor
};

}  // namespace lapidary
