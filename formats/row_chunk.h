// The piece in which a model's rows move from stage to stage (formats/stages.h), whoever moves
// them: convert, quantize, export.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lapidary {

// Rows [first, first + count) of a tensor.
struct RowChunk {
  size_t tensor = 0;
  int64_t first = 0, count = 0;
  int64_t end() const { return first + count; }
};

// Appends rows [first, end) of a tensor in chunks of at most `at_once` rows.
inline void append_chunks(size_t tensor, int64_t first, int64_t end, int64_t at_once,
                          std::vector<RowChunk>* chunks) {
  for (; first < end; first += at_once)
    chunks->push_back({tensor, first, std::min(at_once, end - first)});
}

}  // namespace lapidary
