// Causal attention over a row of several examples, each blind to the others.
//
// Examples lie one after another without padding. Queries, of all tokens or of some, are taken in
// tiles that see only the keys they may: up to the window in sliding layers, up to the beginning of
// their example otherwise. Scores of one tile and one KV head live at a time on each thread, in the
// forward pass and again, recomputed, in the backward pass: memory grows linearly with the row, and
// in sliding layers time does too.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "finetune/frozen_weights.h"
#include "finetune/kept_output.h"

namespace lapidary {

struct AttentionPlan {
  struct Tile {
    int64_t query_begin, query_end;  // of the queries
    int64_t key_begin, key_end;      // tokens of the row
  };
  std::vector<Tile> tiles;
  at::Tensor token;      // int64 [n_queries]: where each query stands in the row
  at::Tensor first_key;  // int64 [n_queries]: the oldest key it sees
};

// `lengths`: tokens of each example; `window`: visible keys, the query included, 0 for all;
// `queries`: tokens that ask, ascending; empty for all.
std::shared_ptr<const AttentionPlan> plan_attention(std::span<const int64_t> lengths, int window,
                                                    std::span<const int64_t> queries = {});

// q [n_queries, n_heads, head_dim], k and v [n_tokens, n_kv_heads, head_dim] -> the shape of q.
// `weights` lends its threads and its precision, and must outlive the graph.
// What `kept` holds is not computed (null: nothing).
at::Tensor attention(FrozenWeights& weights, const std::shared_ptr<const AttentionPlan>& plan,
                     const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                     KeptOutput* kept = nullptr);

}  // namespace lapidary
