// A llama.cpp cache of a short prompt, stretched to a long one: rows are repeated and positions
// counted on, so that generation at a depth is timed without computing the prompt.
//
// Walks what llama_state_seq_get_data() saved and copies it; layout: llama_kv_cache::state_write.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace peer {

class Stretcher {
 public:
  Stretcher(const std::vector<uint8_t>& in, uint32_t depth) : in_(in), depth_(depth) {}

  std::vector<uint8_t> run() {
    copy<uint32_t>();  // magic
    copy<int32_t>();   // the sequence
    while (at_ < in_.size()) cache();
    return std::move(out_);
  }

 private:
  template <class T>
  T copy() {
    T value;
    if (at_ + sizeof(T) > in_.size()) throw std::runtime_error("a saved cache ended early");
    std::memcpy(&value, &in_[at_], sizeof(T));
    at_ += sizeof(T);
    put(value);
    return value;
  }
  template <class T>
  void put(T value) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    out_.insert(out_.end(), bytes, bytes + sizeof(T));
  }

  void cache() {
    if (copy<uint32_t>() != 1) throw std::runtime_error("expected one stream in a saved cache");
    const uint32_t cells = copy<uint32_t>();
    out_.resize(out_.size() - sizeof(uint32_t));
    // A sliding cache keeps its length and moves to the end; a global one is filled.
    const bool global = first_cache_;
    first_cache_ = false;
    const uint32_t grown = global ? depth_ : cells;
    put(grown);
    constexpr size_t kCell = 12;  // position, number of sequences (1), the sequence
    for (uint32_t i = 0; i < grown; ++i) {
      put<int32_t>(static_cast<int32_t>(depth_ - grown + i));
      put<uint32_t>(1);
      put<int32_t>(0);
    }
    at_ += kCell * cells;
    if (copy<uint32_t>() != 0) throw std::runtime_error("expected values by rows in a saved cache");
    const uint32_t layers = copy<uint32_t>();
    for (uint32_t side = 0; side < 2 * layers; ++side) {  // keys of all layers, then values
      copy<int32_t>();
      const uint64_t row = copy<uint64_t>();
      if (row * cells > in_.size() - at_) throw std::runtime_error("a saved cache ended early");
      for (uint32_t i = 0; i < grown; ++i) {
        const uint8_t* source = &in_[at_ + row * (i % cells)];
        out_.insert(out_.end(), source, source + row);
      }
      at_ += row * cells;
    }
  }

  const std::vector<uint8_t>& in_;
  const uint32_t depth_;
  std::vector<uint8_t> out_;
  size_t at_ = 0;
  bool first_cache_ = true;
};

}  // namespace peer
