// safetensors: one file, or a folder's shards with model.safetensors.index.json.
//
// The reader trusts nothing: header length and JSON depth, dtype, shape products, offsets (inside
// the file, not overlapping, no holes needed), duplicate names, index entries that name missing
// shards or leave the folder. Data are read with pread, so nothing counts as resident. Source: the
// format's own README (huggingface/safetensors), 2024.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/dtype.h"
#include "formats/file.h"

namespace lapidary {

struct SafetensorsEntry {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;  // [] is a scalar
  size_t shard;                // index into the set's files
  uint64_t offset, bytes;      // in that file
  int64_t elements() const;
};

class SafetensorsSet {
 public:
  static SafetensorsSet open_file(const std::string& path);
  // `folder` with model.safetensors, or model.safetensors.index.json and its shards.
  static SafetensorsSet open_folder(const std::string& folder);

  const std::vector<SafetensorsEntry>& entries() const { return entries_; }  // file order
  const SafetensorsEntry* find(const std::string& name) const;               // null: not there
  const std::map<std::string, std::string>& file_metadata() const { return file_metadata_; }

  // Bytes [first, first + out.size()) of the tensor's data.
  void read(const SafetensorsEntry& entry, uint64_t first, std::span<uint8_t> out) const;
  // The whole tensor as float32 (F64, F32, F16, BF16, integers). Throws on Bool.
  std::vector<float> read_floats(const SafetensorsEntry& entry) const;
  std::vector<int32_t> read_ints(const SafetensorsEntry& entry) const;  // I32 or I64 that fits

 private:
  std::vector<ReadFile> files_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, size_t> by_name_;
  std::map<std::string, std::string> file_metadata_;
};

struct SafetensorsTensor {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
};

// Writes one file, atomically: the header at once, then the data, by append() in the tensors' order
// or by write() in any.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, const std::vector<SafetensorsTensor>& tensors,
                    const std::map<std::string, std::string>& file_metadata = {{"format", "pt"}});
  void append(std::span<const uint8_t> bytes);
  // Bytes [first, first + bytes.size()) of one tensor's data. REQUIRES: each byte once, no
  // append().
  void write(size_t tensor, uint64_t first, std::span<const uint8_t> bytes);
  void commit();  // REQUIRES: every byte of every tensor was given

 private:
  AtomicFile file_;
  std::vector<uint64_t> offsets_;  // in the file, of each tensor's data and of their end
  uint64_t missing_bytes_ = 0;
};

struct SafetensorsOutput {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  std::span<const uint8_t> bytes;
};
// The same for tensors that are in memory.
void write_safetensors(const std::string& path, const std::vector<SafetensorsOutput>& tensors,
                       const std::map<std::string, std::string>& file_metadata = {
                           {"format", "pt"}});

}  // namespace lapidary
