// The memory of one engine: rows of a batch and every buffer the forward pass writes.
//
// Sized once from the description and the batch limits, so that a step allocates nothing. The
// largest adapter rank is not known then; its scratch grows when one larger than ever before is
// first seen. Buffers are row-major, one batch row after another.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "formats/model_config.h"
#include "runtime/adapter.h"
#include "runtime/candidate.h"
#include "runtime/kv_cache.h"

namespace lapidary {

// Fixed-size memory on a 64-byte boundary. Not zeroed: pages that no step needs are never touched.
template <class T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(int64_t size) : size_(size) {
    if (size == 0) return;
    data_.reset(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), kAlignment)));
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T* row(int64_t index, int64_t width) { return data_.get() + index * width; }
  int64_t size() const { return size_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(static_cast<void*>(p), kAlignment); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

// One token of a step.
struct Row {
  Sequence* sequence;
  const Adapter* adapter;  // null: the base model
  int64_t position;
  int32_t token;
  int32_t source;  // its index before rows nobody wants were dropped: finds its RoPE and PLE rows
  bool wanted;     // its logits are, or its state behind the final norm
  double* state_sum = nullptr;  // where that state is added; null: nowhere
  bool wants_logits = true;     // false: a row that is wanted for its state alone
  float* state = nullptr;       // where that state is copied to, with logits; null: nowhere
};

struct Workspace {
  Workspace(const ModelConfig& config, int max_batch_tokens, int max_logits, int64_t rope_width,
            int64_t ple_row_bytes, int n_lanes);

  std::vector<Row> rows;
  AlignedBuffer<float> hidden, normed, branch;  // [n, d_model]
  AlignedBuffer<float> q, k, v, attended;       // [n, heads * head_dim] of the widest layer
  AlignedBuffer<float> gate, up;                // [n, widest d_ff]; up only beside adapters
  AlignedBuffer<float> rope;                    // [n, rope_width]: see rope_table.h
  AlignedBuffer<float> logits;                  // [max_logits, vocab_size]
  AlignedBuffer<Candidate> best, lane_best;     // [max_logits, best asked for]; and per lane

  // Per-layer embeddings.
  AlignedBuffer<float> ple;          // [n, n_layers * ple_width]
  AlignedBuffer<float> ple_token;    // the same shape: the table's part
  AlignedBuffer<float> ple_gate;     // [n, ple_width]
  AlignedBuffer<uint8_t> ple_bytes;  // [n, bytes of one table row]

  // Mixture of experts; "slot" is one (token, chosen expert) pair, n_slots = n * n_experts_used.
  AlignedBuffer<float> router_logits;          // [n, n_experts]
  AlignedBuffer<float> expert_in, expert_out;  // [n_slots, d_model], grouped by expert
  AlignedBuffer<float> expert_act;             // [n_slots, d_expert]
  AlignedBuffer<float> expert_branch;          // [n, d_model]
  AlignedBuffer<int32_t> chosen;               // [n, n_experts_used] expert ids, ascending
  AlignedBuffer<float> chosen_weight;          // [n, n_experts_used]
  AlignedBuffer<int32_t> grouped_row;          // [n, n_experts_used] row in expert_in
  AlignedBuffer<int32_t> expert_first;         // [n_experts + 1]
};

}  // namespace lapidary
