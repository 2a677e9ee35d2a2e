// llama.cpp's graph with its roundings taken out: products of BF16, F16 and quantized matrices,
// whose inputs its kernels round to a type of the matrix's, and GELU, which it reads from a table
// of 64 Ki half-precision floats, are computed here instead, from the same tensors, in double
// precision.
//
// What remains is llama.cpp's reading of the file: its loader, its graph, its attention and norms.
// If that agrees with ours to float32's last bits, the file says what it should, and what separates
// the two otherwise is how llama.cpp rounds. It is set as a context's cb_eval: every node is asked
// for, so that a node's sources are there, and not yet overwritten in place, when it is announced.
// Models must be loaded without repacking (use_extra_bufts = false), which hides the layout of
// their matrices.
//
// Choices of experts are the one place where float32's last bit can matter: margins() says how near
// they were.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "ggml.h"
#include "tools/peer/llama_session.h"

namespace peer {

class ExactArithmetic {
 public:
  // ggml_backend_sched_eval_callback; `self` is an ExactArithmetic.
  static bool eval(ggml_tensor* t, bool before, void* self) {
    auto* exact = static_cast<ExactArithmetic*>(self);
    if (before)
      exact->compute(t);
    else if (!exact->result_.empty())
      std::memcpy(t->data, exact->result_.data(), exact->result_.size() * sizeof(float));
    return true;
  }

  // Of every token of the last batch: the least ratio p_k / p_k+1 - 1 over the layers, of the
  // scores of the last expert chosen and the first one left out. Empty for models without experts.
  const std::vector<double>& margins() const { return margins_; }
  void forget_margins() { margins_.clear(); }

 private:
  static const char* at(const ggml_tensor* t, int64_t i1, int64_t i2, int64_t i3) {
    return static_cast<const char*>(t->data) + i1 * t->nb[1] + i2 * t->nb[2] + i3 * t->nb[3];
  }
  static const float* floats(const ggml_tensor* t, int64_t i1, int64_t i2 = 0, int64_t i3 = 0) {
    return reinterpret_cast<const float*>(at(t, i1, i2, i3));
  }
  static double gelu(double x) {  // the form with tanh
    constexpr double kRoot2OverPi = 0.79788456080286535588;
    return 0.5 * x * (1 + std::tanh(kRoot2OverPi * x * (1 + 0.044715 * x * x)));
  }

  // Leaves result_ empty for what llama.cpp computes in float32 itself.
  void compute(const ggml_tensor* t) {
    result_.clear();
    const ggml_tensor *a = t->src[0], *b = t->src[1];
    const bool chooses = std::string(t->name).rfind("ffn_moe_topk-", 0) == 0;
    if (t->op == GGML_OP_ARGSORT)
      keep_scores(a);
    else if (chooses)
      note_margins(t->ne[0]);
    else if (t->op == GGML_OP_UNARY && ggml_get_unary_op(t) == GGML_UNARY_OP_GELU)
      gelu_rows(t, a, nullptr);
    else if (t->op == GGML_OP_GLU && ggml_get_glu_op(t) == GGML_GLU_OP_GEGLU)
      gelu_rows(t, a, b);
    else if (t->op == GGML_OP_MUL_MAT && a->type != GGML_TYPE_F32)
      products(t, a, b);
    else if (t->op == GGML_OP_MUL_MAT_ID && a->type != GGML_TYPE_F32)
      products_of_experts(t, a, b, t->src[2]);
  }

  void require_plain(const ggml_tensor* t, const ggml_tensor* input) {
    if (t->type != GGML_TYPE_F32 || input->type != GGML_TYPE_F32 || !ggml_is_contiguous(t))
      die(std::string("exact arithmetic: unexpected tensor ") + t->name);
    result_.resize(static_cast<size_t>(ggml_nelements(t)));
  }

  // gelu(a) * b, row by row; b null: gelu(a). GEGLU of one tensor (halves side by side) is not used
  // by the models read here.
  void gelu_rows(const ggml_tensor* t, const ggml_tensor* a, const ggml_tensor* b) {
    require_plain(t, a);
    if (t->op == GGML_OP_GLU && !b) die("exact arithmetic: GEGLU of one tensor");
    size_t out = 0;
    for (int64_t i3 = 0; i3 < t->ne[3]; ++i3)
      for (int64_t i2 = 0; i2 < t->ne[2]; ++i2)
        for (int64_t i1 = 0; i1 < t->ne[1]; ++i1) {
          const float* x = floats(a, i1, i2, i3);
          const float* y = b ? floats(b, i1, i2, i3) : nullptr;
          for (int64_t i = 0; i < t->ne[0]; ++i)
            result_[out++] = static_cast<float>(gelu(x[i]) * (y ? y[i] : 1));
        }
  }

  // Row i1 of slice (i2, i3) of a matrix, as floats.
  const std::vector<float>& row(const ggml_tensor* a, int64_t i1, int64_t i2, int64_t i3) {
    row_.resize(static_cast<size_t>(a->ne[0]));
    ggml_get_type_traits(a->type)->to_float(at(a, i1, i2, i3), row_.data(), a->ne[0]);
    return row_;
  }
  static float dot(const std::vector<float>& w, const float* x) {
    double sum = 0;
    for (size_t i = 0; i < w.size(); ++i) sum += double{w[i]} * x[i];
    return static_cast<float>(sum);
  }

  // a [k, n, ...], b [k, m, ...] -> t [n, m, ...]; a's outer dimensions repeat.
  void products(const ggml_tensor* t, const ggml_tensor* a, const ggml_tensor* b) {
    require_plain(t, b);
    const int64_t n = t->ne[0], m = t->ne[1];
    for (int64_t i3 = 0; i3 < t->ne[3]; ++i3)
      for (int64_t i2 = 0; i2 < t->ne[2]; ++i2)
        for (int64_t r = 0; r < n; ++r) {
          const std::vector<float>& w =
              row(a, r, i2 / (t->ne[2] / a->ne[2]), i3 / (t->ne[3] / a->ne[3]));
          for (int64_t c = 0; c < m; ++c)
            result_[static_cast<size_t>(((i3 * t->ne[2] + i2) * m + c) * n + r)] =
                dot(w, floats(b, c, i2, i3));
        }
  }

  // a [k, n, experts], b [k, used or 1, tokens], ids [used, tokens] -> t [n, used, tokens].
  void products_of_experts(const ggml_tensor* t, const ggml_tensor* a, const ggml_tensor* b,
                           const ggml_tensor* ids) {
    require_plain(t, b);
    const int64_t n = t->ne[0], used = t->ne[1];
    for (int64_t token = 0; token < t->ne[2]; ++token)
      for (int64_t u = 0; u < used; ++u) {
        const int32_t expert =
            *reinterpret_cast<const int32_t*>(at(ids, token, 0, 0) + u * ids->nb[0]);
        for (int64_t r = 0; r < n; ++r)
          result_[static_cast<size_t>((token * used + u) * n + r)] =
              dot(row(a, r, expert, 0), floats(b, u % b->ne[1], token));
      }
  }

  // Scores [experts, tokens], of each token falling.
  void keep_scores(const ggml_tensor* scores) {
    scores_.clear();
    for (int64_t token = 0; token < scores->ne[1]; ++token) {
      const float* row = floats(scores, token);
      scores_.emplace_back(row, row + scores->ne[0]);
      std::sort(scores_.back().rbegin(), scores_.back().rend());
    }
  }
  void note_margins(int64_t chosen) {
    margins_.resize(std::max(margins_.size(), scores_.size()), HUGE_VAL);
    for (size_t token = 0; token < scores_.size(); ++token) {
      const std::vector<float>& s = scores_[token];
      if (static_cast<size_t>(chosen) >= s.size()) continue;
      const auto k = static_cast<size_t>(chosen);
      margins_[token] = std::min(margins_[token], double{s[k - 1]} / s[k] - 1);
    }
  }

  std::vector<float> result_, row_;
  std::vector<std::vector<float>> scores_;
  std::vector<double> margins_;
};

}  // namespace peer
