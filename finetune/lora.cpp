// Initial values, the update itself, DoRA's norms, and the way back to a PEFT folder.
#include "finetune/lora.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "formats/error.h"
#include "formats/hash.h"
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

bool matches(const std::string& module, const std::string& target) {
  return module == target || module.ends_with("." + target);
}

// The last parts of the names there are, each once, for messages.
std::string known_targets(const std::vector<AdaptableMatrix>& matrices) {
  std::vector<std::string> names;
  for (const auto& m : matrices) {
    const std::string last = m.module.substr(m.module.rfind('.') + 1);
    if (std::find(names.begin(), names.end(), last) == names.end()) names.push_back(last);
  }
  return fmt::format("{}", fmt::join(names, ", "));
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
at::Tensor row_norms(const LoraWeights& lora, FrozenWeights& weights) {
  const at::NoGradGuard no_grad;
  at::Tensor norms = at::empty({lora.matrix->rows}, at::kFloat);
  weights.for_rows(*lora.matrix, [&](int64_t first, const at::Tensor& rows) {
    const at::Tensor b = lora.b.narrow(0, first, rows.size(0));
    norms.narrow(0, first, rows.size(0))
        .copy_((rows + at::mm(b, lora.a) * lora.scale).norm(2, /*dim=*/1));
  });
  return norms;
}

}  // namespace

PeftAdapter new_adapter(const PeftConfig& config, const std::vector<AdaptableMatrix>& matrices,
                        uint64_t seed) {
  PeftAdapter adapter;
  adapter.config = config;
  for (const std::string& target : config.target_modules)
    if (std::none_of(matrices.begin(), matrices.end(),
                     [&](const AdaptableMatrix& m) { return matches(m.module, target); }))
      fail(ErrorCode::kUsage, "target \"{}\" matches no matrix of this model; there are: {}",
           target, known_targets(matrices));
  for (const AdaptableMatrix& m : matrices) {
    if (std::none_of(config.target_modules.begin(), config.target_modules.end(),
                     [&](const std::string& target) { return matches(m.module, target); }))
      continue;
    LoraModule module;
    module.module = m.module;
    module.rank = config.rank;
    module.in = m.matrix->k;
    module.out = m.matrix->rows;
    module.scale = static_cast<float>(
        config.alpha / (config.rslora ? std::sqrt(double{1} * config.rank) : config.rank));
    module.a = uniform_values(static_cast<size_t>(module.rank * module.in),
                              1.0 / std::sqrt(static_cast<double>(module.in)), seed, m.module);
    module.b.assign(static_cast<size_t>(module.out * module.rank), 0.0f);
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
    LoraWeights lora;
    lora.module = module.module;
    lora.matrix = found->matrix;
    lora.scale = module.scale;
    lora.a = to_parameter(module.a, {module.rank, module.in});
    lora.b = to_parameter(module.b, {module.out, module.rank});
    if (initial.config.dora) {
      lora.row_norm = row_norms(lora, weights);
      lora.magnitude = module.magnitude.empty() ? lora.row_norm.clone().requires_grad_(true)
                                                : to_parameter(module.magnitude, {module.out});
    }
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
    if (lora.magnitude.defined()) lora.row_norm = row_norms(lora, weights);
}

PeftAdapter LoraSet::to_peft() const {
  PeftAdapter adapter = description_;
  for (const LoraWeights& lora : modules_) {
    LoraModule module;
    module.module = lora.module;
    module.rank = lora.a.size(0);
    module.in = lora.a.size(1);
    module.out = lora.b.size(0);
    module.scale = static_cast<float>(lora.scale);
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

at::Tensor add_dora(const LoraWeights& lora, const at::Tensor& base_output, const at::Tensor& x) {
  const at::Tensor update = at::mm(at::mm(x, lora.a.t()), lora.b.t()) * lora.scale;
  return (base_output + update) * (lora.magnitude / lora.row_norm);
}

}  // namespace lapidary
