// The examples of one source, each readable alone: in memory while they are few, on disk beyond.
//
// Tokenizing is done once; what is kept in memory for good is a place and a length per example, so
// data may be larger than memory. The file on disk has no name and goes with the process.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "finetune/examples.h"

namespace lapidary {

class ExampleStore {
 public:
  // Beyond `memory_bytes`, examples go to a nameless file in `folder`.
  explicit ExampleStore(std::string folder, size_t memory_bytes = size_t{256} << 20);
  ExampleStore(ExampleStore&&) noexcept;
  ExampleStore& operator=(ExampleStore&&) noexcept = delete;
  ~ExampleStore();

  void add(const Example& example);   // throws kIo: cannot write, disk full
  Example read(int64_t index) const;  // throws kIo
  int64_t size() const { return static_cast<int64_t>(lengths_.size()); }
  std::span<const int64_t> lengths() const { return lengths_; }  // tokens of each
  bool on_disk() const { return fd_ >= 0; }

 private:
  void write_out();

  std::string folder_;
  size_t memory_bytes_;
  std::vector<int64_t> lengths_;
  std::vector<uint64_t> places_;  // byte offset of each example, over disk and then memory
  std::vector<uint8_t> waiting_;  // the end that is not on disk
  uint64_t written_ = 0;          // bytes on disk
  int fd_ = -1;
};

}  // namespace lapidary
