// Causal attention over a row of several examples, each blind to the others.
//
// Examples lie one after another without padding. Queries are taken in tiles that see only the keys
// they may: up to the window in sliding layers, up to the beginning of their example otherwise.
// Scores of one tile live at a time, in the forward pass and again, recomputed, in the backward
// pass, so memory grows linearly with the row.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace lapidary {

struct AttentionPlan {
  struct Tile {
    int64_t query_begin, query_end;  // tokens of the row
    int64_t key_begin;               // keys are [key_begin, query_end)
  };
  std::vector<Tile> tiles;
  at::Tensor first_key;  // int64 [n_tokens]: the oldest key each token sees
};

// `lengths`: tokens of each example; `window`: visible keys, the query included, 0 for all.
std::shared_ptr<const AttentionPlan> plan_attention(std::span<const int64_t> lengths, int window);

// q [n_tokens, n_heads, head_dim], k and v [n_tokens, n_kv_heads, head_dim] -> the shape of q.
at::Tensor attention(const std::shared_ptr<const AttentionPlan>& plan, const at::Tensor& q,
                     const at::Tensor& k, const at::Tensor& v, double scale);

}  // namespace lapidary
