// The bytes before a .lap's data, shared by its reader and its writer; private to formats/.
//
//   header (256) | metadata JSON | tokenizer JSON (zstd) | tensor index | tokenizer tables | data
//
// The layout leaves no freedom: sections follow each other in this order at the next aligned
// offset, tensors in index order at theirs, with zeros between. Offsets are stored all the same,
// and must be what the rule gives; so nothing can overlap, hide or lie outside. docs/format.md has
// every byte.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "formats/hash.h"
#include "formats/lap.h"

namespace lapidary {

static_assert(std::endian::native == std::endian::little,
              ".lap data are used where they are mapped");

inline constexpr std::string_view kLapMagic = "LAPIDARY";
inline constexpr uint32_t kLapVersion = 1;
inline constexpr uint32_t kLapHeaderBytes = 256;
inline constexpr uint32_t kLapRecordBytes = 80;  // of the tensor index, names not counted
inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kLineBytes = 64;
inline constexpr uint64_t kPageAlignedFrom = 64 * 1024;  // tensors this large start on a page

// Limits far above every real model, so that a small hostile file cannot ask for much memory.
inline constexpr uint32_t kMaxLapTensors = 1u << 20;
inline constexpr uint32_t kMaxNameBytes = 512;
inline constexpr uint64_t kMaxMetadataBytes = uint64_t{64} << 20;
inline constexpr uint64_t kMaxTokenizerJsonBytes = uint64_t{512} << 20;

enum LapSection : size_t { kMetadata, kTokenizerJson, kIndex, kTokenizerTables, kSectionCount };
std::string_view section_name(size_t section);

struct LapPlace {
  uint64_t offset = 0;  // 0 when empty
  uint64_t bytes = 0;
  Hash128 hash;  // of the bytes as stored; zero when empty
};

struct LapHeader {
  uint64_t file_bytes = 0;
  uint64_t data_offset = 0;
  uint64_t tokenizer_json_bytes = 0;  // unpacked
  uint32_t n_tensors = 0;
  std::array<LapPlace, kSectionCount> sections;
};

inline uint64_t align_up(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

bool all_zero(std::span<const uint8_t> bytes);

// Gives each section the offset that follows from the sizes; sets data_offset.
void place_sections(LapHeader& header);
// Gives each tensor its bytes and its offset; returns the end of the last.
uint64_t place_tensors(std::span<LapTensor> tensors, uint64_t data_offset);

std::vector<uint8_t> encode_header(const LapHeader& header);
// Checks everything that can be checked without looking at the sections. `actual_bytes` is the
// file's size. Throws kBadData beginning with "header: ".
LapHeader decode_header(std::span<const uint8_t> bytes, uint64_t actual_bytes);

std::vector<uint8_t> encode_index(std::span<const LapTensor> tensors);
// Throws kBadData beginning with "tensor index: ". Offsets are not looked at here: check_places
// does.
std::vector<LapTensor> decode_index(std::span<const uint8_t> bytes, uint32_t n_tensors);
// Every tensor lies where the rule puts it, and the last ends with the file.
void check_places(std::span<const LapTensor> tensors, const LapHeader& header);

// Name, shape, code and layout fit together. Throws kBadData naming the tensor.
void check_tensor(const LapTensor& tensor);

}  // namespace lapidary
