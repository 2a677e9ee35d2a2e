// Initial values, the update itself, DoRA's norms, and the way back to a PEFT folder.
#include "finetune/lora.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "finetune/merge_aware.h"
#include "finetune/packed_linear.h"
#include "formats/error.h"
#include "formats/hash.h"
#include "formats/peft_config.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

at::Tensor to_parameter(const std::vector<float>& values, at::IntArrayRef shape) {
  at::Tensor t = at::empty(shape, at::kFloat);
  LAPIDARY_CHECK(t.numel() == static_cast<int64_t>(values.size()));
  std::memcpy(t.data_ptr<float>(), values.data(), values.size() * sizeof(float));
  return t.requires_grad_(true);
}

std::vector<float> to_vector(const at::Tensor& tensor) {
  const at::Tensor t = tensor.detach().contiguous();
  return {t.data_ptr<float>(), t.data_ptr<float>() + t.numel()};
}

// Each module draws from its own stream, so that adding a target changes no other's start.
std::vector<float> uniform_values(size_t n, double bound, uint64_t seed,
                                  const std::string& module) {
  const auto bytes = std::span(reinterpret_cast<const uint8_t*>(module.data()), module.size());
  SplitMix64 random(seed ^ hash_bytes(bytes).low);
  std::vector<float> values(n);
  for (float& v : values) v = static_cast<float>((2 * random.uniform() - 1) * bound);
  return values;
}

// |W + s B A| per row.
at::Tensor row_norms(const LoraPart& lora, FrozenWeights& weights) {
  const at::NoGradGuard no_grad;
  at::Tensor norms = at::empty({lora.matrix->rows}, at::kFloat);
  weights.for_rows(*lora.matrix, [&](int64_t first, const at::Tensor& rows) {
    const at::Tensor b = lora.b.narrow(0, first, rows.size(0));
    norms.narrow(0, first, rows.size(0))
        .copy_((rows + at::mm(b, lora.a) * lora.scale).norm(2, /*dim=*/1));
  });
  return norms;
}

// A stack's tensors, cut into leaves that share their values and gradients.
void cut_into_parts(LoraWeights& lora, const std::vector<MatrixView>& experts, double scale) {
  for (at::Tensor* t : {&lora.a, &lora.b, &lora.magnitude})
    if (t->defined()) t->mutable_grad() = at::zeros_like(t->detach());
  const auto part = [](const at::Tensor& all, int64_t e) {
    if (!all.defined()) return at::Tensor();
    at::Tensor one = all.detach().select(0, e).requires_grad_(true);
    one.mutable_grad() = all.grad().select(0, e);
    return one;
  };
  for (int64_t e = 0; e < lora.n_experts; ++e)
    lora.parts.push_back({&experts[static_cast<size_t>(e)],
                          scale,
                          part(lora.a, e),
                          part(lora.b, e),
                          part(lora.magnitude, e),
                          {},
                          nullptr});
}

// DoRA's start where none is given: the rows keep their lengths.
at::Tensor lengths_of_rows(const LoraWeights& lora, const AdaptableMatrix& matrix, double scale,
                           FrozenWeights& weights) {
  if (lora.n_experts == 0)
    return row_norms({matrix.matrix, scale, lora.a, lora.b, {}, {}, nullptr}, weights);
  std::vector<at::Tensor> norms;
  for (int64_t e = 0; e < lora.n_experts; ++e)
    norms.push_back(row_norms({&(*matrix.experts)[static_cast<size_t>(e)],
                               scale,
                               lora.a.select(0, e),
                               lora.b.select(0, e),
                               {},
                               {},
                               nullptr},
                              weights));
  return at::stack(norms);
}

at::Tensor add_dora(const LoraPart& lora, const at::Tensor& base_output, const at::Tensor& x) {
  const at::Tensor update = at::mm(at::mm(x, lora.a.t()), lora.b.t()) * lora.scale;
  return (base_output + update) * (lora.magnitude / lora.row_norm);
}

}  // namespace

PeftAdapter new_adapter(const PeftConfig& config, const std::vector<AdaptableMatrix>& matrices,
                        uint64_t seed) {
  PeftAdapter adapter;
  adapter.config = config;
  resolve_targets(adapter.config, matrices);
  const LoraScales scales(adapter.config);
  for (const AdaptableMatrix& m : matrices) {
    if (!is_target(adapter.config, m)) continue;
    LoraModule module;
    module.module = m.module;
    module.rank = scales.rank(m.module);
    module.in = m.matrix->k;
    module.out = m.matrix->rows;
    module.n_experts = m.experts ? static_cast<int64_t>(m.experts->size()) : 0;
    module.scale = scales.scale(m.module);
    const int64_t ranks = module.rank * module.n_matrices();
    module.a = uniform_values(static_cast<size_t>(ranks * module.in),
                              1.0 / std::sqrt(static_cast<double>(module.in)), seed, m.module);
    module.b.assign(static_cast<size_t>(module.out * ranks), 0.0f);
    adapter.modules.push_back(std::move(module));
  }
  std::sort(adapter.modules.begin(), adapter.modules.end(),
            [](const LoraModule& a, const LoraModule& b) { return a.module < b.module; });
  return adapter;
}

LoraSet::LoraSet(const PeftAdapter& initial, const std::vector<AdaptableMatrix>& matrices,
                 FrozenWeights& weights)
    : description_(initial) {
  description_.modules.clear();
  for (const LoraModule& module : initial.modules) {
    const auto found =
        std::find_if(matrices.begin(), matrices.end(),
                     [&](const AdaptableMatrix& m) { return m.module == module.module; });
    if (found == matrices.end())
      fail(ErrorCode::kBadData, "the adapter's module {} is not a matrix of this model",
           module.module);
    if (module.in != found->matrix->k || module.out != found->matrix->rows)
      fail(ErrorCode::kBadData, "the adapter's module {} is [{}, {}], the model's [{}, {}]",
           module.module, module.out, module.in, found->matrix->rows, found->matrix->k);
    const auto n_experts =
        static_cast<int64_t>(found->experts ? found->experts->size() : size_t{0});
    if (module.n_experts != n_experts)
      fail(ErrorCode::kBadData, "the adapter's module {} has {} experts, the model {}",
           module.module, module.n_experts, n_experts);
    LoraWeights lora;
    lora.module = module.module;
    lora.n_experts = n_experts;
    const auto shape = [&](std::vector<int64_t> of_one) {
      if (n_experts > 0) of_one.insert(of_one.begin(), n_experts);
      return of_one;
    };
    lora.a = to_parameter(module.a, shape({module.rank, module.in}));
    lora.b = to_parameter(module.b, shape({module.out, module.rank}));
    const double scale = module.scale;
    if (initial.config.dora && module.magnitude.empty())
      lora.magnitude = lengths_of_rows(lora, *found, scale, weights).requires_grad_(true);
    else if (initial.config.dora)
      lora.magnitude = to_parameter(module.magnitude, shape({module.out}));
    if (n_experts > 0)
      cut_into_parts(lora, *found->experts, scale);
    else
      lora.parts = {{found->matrix, scale, lora.a, lora.b, lora.magnitude, {}, nullptr}};
    modules_.push_back(std::move(lora));
  }
}

const LoraWeights* LoraSet::find(std::string_view module) const {
  for (const LoraWeights& lora : modules_)
    if (lora.module == module) return &lora;
  return nullptr;
}

void LoraSet::refresh(FrozenWeights& weights) {
  for (LoraWeights& lora : modules_)
    for (LoraPart& part : lora.parts)
      if (part.magnitude.defined()) part.row_norm = row_norms(part, weights);
}

PeftAdapter LoraSet::to_peft() const {
  PeftAdapter adapter = description_;
  for (const LoraWeights& lora : modules_) {
    LoraModule module;
    module.module = lora.module;
    module.n_experts = lora.n_experts;
    module.rank = lora.a.size(-2);
    module.in = lora.a.size(-1);
    module.out = lora.b.size(-2);
    module.scale = static_cast<float>(lora.parts.front().scale);
    module.a = to_vector(lora.a);
    module.b = to_vector(lora.b);
    if (lora.magnitude.defined()) module.magnitude = to_vector(lora.magnitude);
    adapter.modules.push_back(std::move(module));
  }
  return adapter;
}

int64_t LoraSet::trained_parameters() const {
  int64_t n = 0;
  for (const LoraWeights& lora : modules_) {
    n += lora.a.numel() + lora.b.numel();
    if (lora.magnitude.defined()) n += lora.magnitude.numel();
  }
  return n;
}

at::Tensor adapted_linear(FrozenWeights& weights, const LoraPart& lora, const at::Tensor& x,
                          KeptOutput* kept) {
  if (lora.merged) return merged_linear(weights, lora, x);
  if (lora.magnitude.defined())
    return add_dora(lora, packed_linear(weights, *lora.matrix, x, kept), x);
  return lora_linear(weights, *lora.matrix, x, lora.a, lora.b, lora.scale, kept);
}

}  // namespace lapidary
