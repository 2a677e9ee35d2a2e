// Tiles of queries, softmax per tile, and the gradient that recomputes it.
#include "finetune/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <limits>

namespace lapidary {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Queries per tile: short examples share a tile up to this many, long ones are cut at it.
constexpr int64_t kTileQueries = 256;

// Keeps the plan alive inside the graph.
struct PlanHolder : torch::CustomClassHolder {
  explicit PlanHolder(std::shared_ptr<const AttentionPlan> p) : plan(std::move(p)) {}
  std::shared_ptr<const AttentionPlan> plan;
};

struct Shape {
  int64_t n_kv_heads, group, head_dim;  // group: query heads per KV head
};

// [n, n_heads, d] of a query tile as [n_kv_heads, group * n, d], one matrix per KV head.
at::Tensor by_kv_head(const at::Tensor& x, const AttentionPlan::Tile& tile, const Shape& s) {
  const int64_t n = tile.query_end - tile.query_begin;
  return x.narrow(0, tile.query_begin, n)
      .view({n, s.n_kv_heads, s.group, s.head_dim})
      .permute({1, 2, 0, 3})
      .reshape({s.n_kv_heads, s.group * n, s.head_dim});
}

// The way back.
at::Tensor by_token(const at::Tensor& x, int64_t n, const Shape& s) {
  return x.view({s.n_kv_heads, s.group, n, s.head_dim})
      .permute({2, 0, 1, 3})
      .reshape({n, s.n_kv_heads * s.group, s.head_dim});
}

at::Tensor keys_of(const at::Tensor& x, const AttentionPlan::Tile& tile) {
  return x.narrow(0, tile.key_begin, tile.query_end - tile.key_begin).transpose(0, 1);
}

// Attention weights of one tile, [n_kv_heads, group * n_queries, n_keys].
at::Tensor probabilities(const AttentionPlan& plan, const AttentionPlan::Tile& tile,
                         const at::Tensor& q, const at::Tensor& keys, double scale,
                         const Shape& s) {
  const int64_t n = tile.query_end - tile.query_begin, n_keys = tile.query_end - tile.key_begin;
  const at::Tensor key = at::arange(tile.key_begin, tile.query_end, at::kLong).unsqueeze(0);
  const at::Tensor query = at::arange(tile.query_begin, tile.query_end, at::kLong).unsqueeze(1);
  const at::Tensor oldest = plan.first_key.narrow(0, tile.query_begin, n).unsqueeze(1);
  const at::Tensor hidden = at::logical_or(key.lt(oldest), key.gt(query));
  at::Tensor scores = at::bmm(q, keys.transpose(1, 2)).mul_(scale);
  scores.view({s.n_kv_heads, s.group, n, n_keys})
      .masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  return scores.softmax(-1);
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const c10::intrusive_ptr<PlanHolder>& holder,
                            double scale) {
    context->save_for_backward({q, k, v});
    context->saved_data["plan"] = c10::IValue::make_capsule(holder);
    context->saved_data["scale"] = scale;
    const Shape s{k.size(1), q.size(1) / k.size(1), q.size(2)};
    at::Tensor out = at::empty_like(q);
    for (const auto& tile : holder->plan->tiles) {
      const at::Tensor keys = keys_of(k, tile);
      const at::Tensor p =
          probabilities(*holder->plan, tile, by_kv_head(q, tile, s), keys, scale, s);
      const int64_t n = tile.query_end - tile.query_begin;
      out.narrow(0, tile.query_begin, n).copy_(by_token(at::bmm(p, keys_of(v, tile)), n, s));
    }
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const auto holder =
        c10::static_intrusive_pointer_cast<PlanHolder>(context->saved_data["plan"].toCapsule());
    const double scale = context->saved_data["scale"].toDouble();
    const Shape s{k.size(1), q.size(1) / k.size(1), q.size(2)};
    const at::Tensor dout = gradients[0].contiguous();
    at::Tensor dq = at::empty_like(q), dk = at::zeros_like(k), dv = at::zeros_like(v);
    for (const auto& tile : holder->plan->tiles) {
      const int64_t n = tile.query_end - tile.query_begin;
      const int64_t n_keys = tile.query_end - tile.key_begin;
      const at::Tensor queries = by_kv_head(q, tile, s), keys = keys_of(k, tile);
      const at::Tensor p = probabilities(*holder->plan, tile, queries, keys, scale, s);
      const at::Tensor d = by_kv_head(dout, tile, s);
      const at::Tensor dp = at::bmm(d, keys_of(v, tile).transpose(1, 2));
      const at::Tensor ds = (dp - (dp * p).sum(-1, true)).mul_(p).mul_(scale);
      dq.narrow(0, tile.query_begin, n).copy_(by_token(at::bmm(ds, keys), n, s));
      dk.narrow(0, tile.key_begin, n_keys)
          .add_(at::bmm(ds.transpose(1, 2), queries).transpose(0, 1));
      dv.narrow(0, tile.key_begin, n_keys).add_(at::bmm(p.transpose(1, 2), d).transpose(0, 1));
    }
    return {dq, dk, dv, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

std::shared_ptr<const AttentionPlan> plan_attention(std::span<const int64_t> lengths, int window) {
  auto plan = std::make_shared<AttentionPlan>();
  std::vector<int64_t> first_key;
  for (const int64_t length : lengths) {
    const auto begin = static_cast<int64_t>(first_key.size());
    for (int64_t t = begin; t < begin + length; ++t)
      first_key.push_back(window > 0 ? std::max(begin, t - window + 1) : begin);
    for (int64_t from = begin; from < begin + length; from += kTileQueries) {
      const int64_t to = std::min(from + kTileQueries, begin + length);
      auto& tiles = plan->tiles;
      // A tile that begins with an older example sees that example's first key.
      const bool joins = !tiles.empty() && to - from == length &&
                         to - tiles.back().query_begin <= kTileQueries &&
                         tiles.back().key_begin == tiles.back().query_begin;
      if (joins)
        tiles.back().query_end = to;
      else
        tiles.push_back({from, to, first_key[static_cast<size_t>(from)]});
    }
  }
  plan->first_key = at::empty({static_cast<int64_t>(first_key.size())}, at::kLong);
  std::copy(first_key.begin(), first_key.end(), plan->first_key.data_ptr<int64_t>());
  return plan;
}

at::Tensor attention(const std::shared_ptr<const AttentionPlan>& plan, const at::Tensor& q,
                     const at::Tensor& k, const at::Tensor& v, double scale) {
  return AttentionFunction::apply(q.contiguous(), k.contiguous(), v.contiguous(),
                                  c10::make_intrusive<PlanHolder>(plan), scale);
}

}  // namespace lapidary
