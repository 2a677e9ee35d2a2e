// Softmax per tile and KV head, and the gradient that recomputes it.
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

// Keeps the plan alive inside the graph.
struct PlanHolder : torch::CustomClassHolder {
  explicit PlanHolder(std::shared_ptr<const AttentionPlan> p) : plan(std::move(p)) {}
  std::shared_ptr<const AttentionPlan> plan;
};

// One tile of queries with one KV head and the `group` query heads that read it.
class TileHead {
 public:
  TileHead(Precision precision, const AttentionPlan& plan, const AttentionPlan::Tile& tile,
           int64_t kv_head, int64_t n_kv_heads, const at::Tensor& q, double scale)
      : precision_(precision),
        plan_(plan),
        tile_(tile),
        kv_head_(kv_head),
        group_(q.size(1) / n_kv_heads),
        head_dim_(q.size(2)),
        scale_(scale) {}

  int64_t n_queries() const { return tile_.query_end - tile_.query_begin; }
  int64_t n_keys() const { return tile_.key_end - tile_.key_begin; }
  int64_t n_rows() const { return group_ * n_queries(); }

  // This tile's part of x, of the shape of q: [n_queries, group, head_dim].
  at::Tensor part(const at::Tensor& x) const {
    return x.narrow(0, tile_.query_begin, n_queries()).narrow(1, kv_head_ * group_, group_);
  }
  // The same as one matrix, head after head: [n_rows, head_dim].
  at::Tensor rows_of(const at::Tensor& x) const {
    return part(x).transpose(0, 1).reshape({n_rows(), head_dim_});
  }
  void put(const at::Tensor& x, const at::Tensor& rows) const {
    part(x).copy_(rows.view({group_, n_queries(), head_dim_}).transpose(0, 1));
  }

  // Visible keys or values of this head, [n_keys, head_dim] inside x.
  Operand keys(const at::Tensor& x, bool transposed) const {
    const int64_t ld = x.size(1) * head_dim_;
    return {x.data_ptr<float>() + tile_.key_begin * ld + kv_head_ * head_dim_, ld, transposed};
  }
  // rows [n_rows, head_dim] times those transposed: [n_rows, n_keys].
  at::Tensor times_keys(const at::Tensor& rows, const at::Tensor& x) const {
    at::Tensor y = at::empty({n_rows(), n_keys()}, rows.options());
    block_product(precision_, n_rows(), n_keys(), head_dim_, {rows.data_ptr<float>(), head_dim_},
                  keys(x, /*transposed=*/true), y.data_ptr<float>(), n_keys(), /*add=*/false);
    return y;
  }
  // p [n_rows, n_keys] times those: [n_rows, head_dim].
  at::Tensor sum_keys(const at::Tensor& p, const at::Tensor& x) const {
    at::Tensor y = at::empty({n_rows(), head_dim_}, p.options());
    block_product(precision_, n_rows(), head_dim_, n_keys(), {p.data_ptr<float>(), n_keys()},
                  keys(x, /*transposed=*/false), y.data_ptr<float>(), head_dim_, /*add=*/false);
    return y;
  }
  // p^T rows: [n_keys, head_dim].
  at::Tensor sum_rows(const at::Tensor& p, const at::Tensor& rows) const {
    at::Tensor y = at::empty({n_keys(), head_dim_}, p.options());
    block_product(precision_, n_keys(), head_dim_, n_rows(),
                  {p.data_ptr<float>(), n_keys(), /*transposed=*/true},
                  {rows.data_ptr<float>(), head_dim_}, y.data_ptr<float>(), head_dim_,
                  /*add=*/false);
    return y;
  }
  // Where sum_rows() of this tile belongs in x, of the shape of k.
  at::Tensor place(const at::Tensor& x) const {
    return x.narrow(0, tile_.key_begin, n_keys()).select(1, kv_head_);
  }

  // Attention weights [n_rows, n_keys].
  at::Tensor probabilities(const at::Tensor& queries, const at::Tensor& k) const {
    const at::Tensor key = at::arange(tile_.key_begin, tile_.key_end, at::kLong).unsqueeze(0);
    const auto of = [&](const at::Tensor& x) {
      return x.narrow(0, tile_.query_begin, n_queries()).unsqueeze(1);
    };
    const at::Tensor hidden = at::logical_or(key.lt(of(plan_.first_key)), key.gt(of(plan_.token)));
    at::Tensor scores = times_keys(queries, k).mul_(scale_);
    scores.view({group_, n_queries(), n_keys()})
        .masked_fill_(hidden, -std::numeric_limits<double>::infinity());
    return at::softmax_out(scores, scores, -1);
  }

 private:
  Precision precision_;
  const AttentionPlan& plan_;
  const AttentionPlan::Tile& tile_;
  int64_t kv_head_, group_, head_dim_;
  double scale_;
};

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const c10::intrusive_ptr<PlanHolder>& holder,
                            double scale, int64_t weights_address, KeptOutput* kept) {
    context->save_for_backward({q, k, v});
    context->saved_data["plan"] = c10::IValue::make_capsule(holder);
    context->saved_data["scale"] = scale;
    context->saved_data["weights"] = weights_address;
    auto& weights = *reinterpret_cast<FrozenWeights*>(weights_address);
    const auto& tiles = holder->plan->tiles;
    const int64_t n_kv_heads = k.size(1);
    return make_or_take(weights, kept, [&] {
      at::Tensor out = at::empty_like(q);
      weights.parallel(static_cast<int64_t>(tiles.size()) * n_kv_heads, [&](int64_t item) {
        const TileHead t(weights.precision(), *holder->plan,
                         tiles[static_cast<size_t>(item / n_kv_heads)], item % n_kv_heads,
                         n_kv_heads, q, scale);
        t.put(out, t.sum_keys(t.probabilities(t.rows_of(q), k), v));
        release_blocks(weights.precision());
      });
      return out;
    });
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const auto holder =
        c10::static_intrusive_pointer_cast<PlanHolder>(context->saved_data["plan"].toCapsule());
    auto& weights = *reinterpret_cast<FrozenWeights*>(context->saved_data["weights"].toInt());
    const double scale = context->saved_data["scale"].toDouble();
    const auto& tiles = holder->plan->tiles;
    const int64_t n_kv_heads = k.size(1);
    const auto n_items = static_cast<int64_t>(tiles.size()) * n_kv_heads;
    const at::Tensor dout = gradients[0].contiguous();
    at::Tensor dq = at::empty_like(q), dk = at::zeros_like(k), dv = at::zeros_like(v);
    const auto tile_head = [&](int64_t item) {
      return TileHead(weights.precision(), *holder->plan,
                      tiles[static_cast<size_t>(item / n_kv_heads)], item % n_kv_heads, n_kv_heads,
                      q, scale);
    };
    // Tiles share keys. A few at a time leave their parts, which are then added in their order, so
    // that sums do not depend on the number of threads.
    const int64_t at_once = std::max(4, weights.n_threads());
    std::vector<at::Tensor> dk_parts(static_cast<size_t>(at_once)), dv_parts(dk_parts.size());
    for (int64_t first = 0; first < n_items; first += at_once) {
      const int64_t n = std::min(at_once, n_items - first);
      weights.parallel(n, [&](int64_t i) {
        const TileHead t = tile_head(first + i);
        const at::Tensor queries = t.rows_of(q), d = t.rows_of(dout);
        const at::Tensor p = t.probabilities(queries, k);
        dv_parts[static_cast<size_t>(i)] = t.sum_rows(p, d);
        at::Tensor ds = t.times_keys(d, v);
        ds.sub_((ds * p).sum(-1, true)).mul_(p).mul_(scale);
        t.put(dq, t.sum_keys(ds, k));
        dk_parts[static_cast<size_t>(i)] = t.sum_rows(ds, queries);
        release_blocks(weights.precision());
      });
      for (int64_t i = 0; i < n; ++i) {
        const TileHead t = tile_head(first + i);
        t.place(dk).add_(dk_parts[static_cast<size_t>(i)]);
        t.place(dv).add_(dv_parts[static_cast<size_t>(i)]);
      }
    }
    return {dq, dk, dv, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

at::Tensor to_tensor(const std::vector<int64_t>& values) {
  at::Tensor t = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), t.data_ptr<int64_t>());
  return t;
}

// Tokens per tile: short examples share a tile up to this many, long ones are cut at it. Half a
// window keeps the keys of a tile within one and a half windows.
int64_t tile_tokens(int window) {
  constexpr int64_t kLeast = 32, kMost = 256;
  return window > 0 ? std::clamp<int64_t>(window / 2, kLeast, kMost) : kMost;
}

}  // namespace

std::shared_ptr<const AttentionPlan> plan_attention(std::span<const int64_t> lengths, int window,
                                                    std::span<const int64_t> queries) {
  const int64_t most = tile_tokens(window);
  std::vector<AttentionPlan::Tile> tiles;  // of tokens, as if all asked
  std::vector<int64_t> first_key;
  for (const int64_t length : lengths) {
    const auto begin = static_cast<int64_t>(first_key.size());
    for (int64_t t = begin; t < begin + length; ++t)
      first_key.push_back(window > 0 ? std::max(begin, t - window + 1) : begin);
    for (int64_t from = begin; from < begin + length; from += most) {
      const int64_t to = std::min(from + most, begin + length);
      // A tile that begins with an older example sees that example's first key.
      const bool joins = !tiles.empty() && to - from == length &&
                         to - tiles.back().query_begin <= most &&
                         tiles.back().key_begin == tiles.back().query_begin;
      if (joins)
        tiles.back().query_end = tiles.back().key_end = to;
      else
        tiles.push_back({from, to, first_key[static_cast<size_t>(from)], to});
    }
  }
  auto plan = std::make_shared<AttentionPlan>();
  std::vector<int64_t> token(queries.begin(), queries.end()), oldest;
  if (token.empty())
    for (size_t t = 0; t < first_key.size(); ++t) token.push_back(static_cast<int64_t>(t));
  for (const int64_t t : token) oldest.push_back(first_key[static_cast<size_t>(t)]);
  for (const AttentionPlan::Tile& tile : tiles) {
    const auto index = [&](int64_t t) {
      return std::lower_bound(token.begin(), token.end(), t) - token.begin();
    };
    const int64_t begin = index(tile.query_begin), end = index(tile.query_end);
    if (begin < end)
      plan->tiles.push_back({begin, end, oldest[static_cast<size_t>(begin)],
                             token[static_cast<size_t>(end - 1)] + 1});
  }
  plan->token = to_tensor(token);
  plan->first_key = to_tensor(oldest);
  return plan;
}

at::Tensor attention(FrozenWeights& weights, const std::shared_ptr<const AttentionPlan>& plan,
                     const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                     KeptOutput* kept) {
  return AttentionFunction::apply(q.contiguous(), k.contiguous(), v.contiguous(),
                                  c10::make_intrusive<PlanHolder>(plan), scale,
                                  reinterpret_cast<int64_t>(&weights), kept);
}

}  // namespace lapidary
