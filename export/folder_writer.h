// A model as a folder of safetensors in somebody else's terms: what each tensor becomes is planned
// first, then the rows stream through.
//
// One of our tensors, or a slice of its rows, becomes one or several tensors of the folder
// (integers, scales, shape). Their places are known before the first row is read, so nothing but
// the rows at hand is in memory. The folder appears whole or not at all.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/events.h"
#include "formats/lap.h"
#include "formats/safetensors.h"

namespace lapidary {

struct FolderPart {
  SafetensorsTensor tensor;
  std::vector<uint8_t> constant = {};  // all its bytes, where no row brings them
};

// Rows of a tensor seen as [rows, k]: `runs` pieces of `run` rows, `stride` rows apart.
struct RowSlice {
  int64_t first = 0, run = 0, stride = 0, runs = 1;
  int64_t rows() const { return run * runs; }
  int64_t source(int64_t row) const { return first + row / run * stride + row % run; }
};

// Fills each part's bytes of source rows [first, first + count); called by several threads.
using EncodeRows =
    std::function<void(int64_t first, int64_t count, std::span<const std::span<uint8_t>> parts)>;

struct FolderTensor {
  size_t source;  // in model.tensors()
  RowSlice rows;
  std::vector<FolderPart> parts;  // bytes in proportion to rows, or constant
  EncodeRows encode;
};

struct FolderReport {
  struct Tensor {
    std::string name;  // in the .lap
    Code code;
    std::string type;  // in the folder: "bf16", "int4 per 32"
    bool exact;        // every weight has the value it had
  };
  std::vector<Tensor> tensors;
  std::vector<std::string> notes;  // what a person should know
  int n_shards = 0;
  uint64_t bytes = 0;  // of all tensors
  double seconds = 0;
};

struct FolderOptions {
  uint64_t shard_bytes = 5'000'000'000;  // a shard ends before the tensor that would pass this
  bool overwrite = false;                // replace an existing folder
  int n_threads = 0;                     // 0: all cores
};

// A float tensor as it is, a packed one as bf16 of its values; the type it gets, and its line in
// the report.
FolderTensor float_tensor(const LapReader& model, size_t source);
DType float_type(Code code);
FolderReport::Tensor float_report(const std::string& name, Code code);

// Bytes of all parts.
uint64_t folder_bytes(const FolderTensor& tensor);

// Writes model.safetensors, or numbered shards and their index, into an existing folder; `metadata`
// is the files' own. Returns the number of shards.
int write_shards(const LapReader& model, const std::string& folder,
                 const std::vector<FolderTensor>& tensors, const FolderOptions& options,
                 const std::map<std::string, std::string>& metadata, const Events& events);

}  // namespace lapidary
