// Lines of a text file of any size, plain or packed with zstd, one at a time.
//
// What is held is one line and a buffer, never the file. Packed files are recognised by their first
// bytes; several frames one after another are one text, as `zstd -d` has it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "formats/hash.h"

namespace lapidary {

class LineReader {
 public:
  // Throws kNotFound, kIo.
  explicit LineReader(const std::string& path);
  ~LineReader();

  // The next line without its end; false at the end of the text. Throws kIo, or kBadData for a
  // damaged or truncated frame, and for a line beyond 256 MiB.
  bool next(std::string& line);
  int64_t line_number() const;   // of the line last given, from 1
  uint64_t bytes_read() const;   // of the file as it lies on disk
  uint64_t bytes_total() const;  // the same at the end
  Hash128 hash() const;          // of the text given so far; of the whole text at its end

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lapidary
