// The packed model file, .lap: header, metadata, tokenizer, index, data. Specified to the byte in
// docs/format.md.
//
// Everything before the data is hashed and checked at open; tensor data are checked by verify().
// Data are mapped and used in place. The reader trusts nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/events.h"
#include "formats/file.h"
#include "formats/hash.h"
#include "formats/model_source.h"
#include "formats/packed_matrix.h"

namespace lapidary {

enum class Layout : uint8_t {
  kPlain = 0,     // float code, row-major
  kPanels = 1,    // quantized matrix or stack of matrices
  kRowTable = 2,  // per-layer embeddings, float or quantized
};

struct LapTensor {
  std::string name;
  std::vector<int64_t> shape;  // logical, 1 to 3 dimensions
  Code code = Code::kBF16;
  Layout layout = Layout::kPlain;
  bool rotated = false;
  ScaleType scale_type = ScaleType::kF16;
  int64_t record_width = 0;  // kRowTable: of one layer's record; shape = [rows, layers * width]
  uint64_t offset = 0;       // in the file; filled by the writer
  uint64_t bytes = 0;        // stored; from the geometry
  Hash128 hash;              // of the stored bytes
  int64_t elements() const;
};

// Bytes a tensor takes with its code and layout. Throws kBadData when the shape does not fit them.
uint64_t stored_bytes(const LapTensor& tensor);

// Bytes of a file whose data begin at `data_offset`.
uint64_t planned_file_bytes(std::vector<LapTensor> tensors, uint64_t data_offset);

class LapReader : public ModelSource {
 public:
  // Throws kNotFound, kIo, or kBadData naming the place (header, metadata, tokenizer, index).
  static std::unique_ptr<LapReader> open(const std::string& path);

  const ModelMetadata& metadata() const override;
  std::string tokenizer_json() const override;
  const std::vector<SourceTensor>& tensors() const override;
  void read_rows(size_t index, int64_t first, int64_t count, std::span<float> out) const override;
  void read_raw(size_t index, int64_t first, int64_t count, std::span<uint8_t> out) const override;
  std::string content_hash() const override;
  std::string describe() const override;

  const std::vector<LapTensor>& index() const;
  const LapTensor* find(std::string_view name) const;       // null: not there
  std::span<const uint8_t> data(const LapTensor& t) const;  // mapped; lives as long as the reader
  // A matrix ready for kernels. `expert` picks one of a 3-D stack. REQUIRES: kPlain 2-D/3-D or
  // kPanels.
  MatrixView matrix(const LapTensor& t, int64_t expert = 0) const;
  std::vector<float> floats(const LapTensor& t) const;  // small plain tensors (norms, scalars)
  const ReadFile& file() const;                         // for pread of row tables
  std::span<const uint8_t> tokenizer_tables() const;    // mapped compiled tables; may be empty
  uint64_t file_bytes() const;
  double bits_per_weight() const;  // 8 * stored bytes of all tensors / elements
  // Hashes all tensor data; returns the names of tensors whose bytes (or the padding before them)
  // changed.
  std::vector<std::string> verify(const Events& events) const;

 private:
  LapReader();
  struct State;
  std::unique_ptr<State> state_;

 public:
  ~LapReader() override;
};

// The tokenizer twice: as it came, and compiled by formats/tokenizer_tables.h. Both may be empty.
struct LapTokenizer {
  std::string_view json;
  std::span<const uint8_t> tables;
};

// Writes a .lap: declare all tensors, then stream each one's bytes in order. The constructor fills
// in offsets and sizes; it throws kBadData for duplicate names and shapes that do not fit their
// layout.
class LapWriter {
 public:
  LapWriter(const std::string& path, const ModelMetadata& metadata, const LapTokenizer& tokenizer,
            std::vector<LapTensor> tensors);
  ~LapWriter();

  // Appends bytes to tensor `index`; tensors may be written in any order, each from its start.
  void append(size_t index, std::span<const uint8_t> bytes);
  // Panels: code and meta bytes of matrix `expert`, panels [first_panel, ...), go to their places.
  // REQUIRES: panels of one tensor in ascending order, experts too, not mixed with append().
  void write_panels(size_t index, int64_t expert, int64_t first_panel,
                    std::span<const uint8_t> codes, std::span<const uint8_t> meta);
  // The file's content hash. REQUIRES: every byte of every tensor was given.
  std::string content_hash() const;
  // Replaces metadata.provenance: the source's hash is known only after all of it was read, and its
  // place in the file lies before. REQUIRES: the same length as the text given to the constructor.
  void replace_provenance(const std::string& provenance);
  // Writes index and header, checks that every byte of every tensor came, syncs and renames.
  // Returns the file's content hash.
  std::string commit();
  uint64_t file_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lapidary
