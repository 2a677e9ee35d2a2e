// From a PEFT folder to matrices beside the model's own, and the check that they belong together.
#include "runtime/adapter.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/hash.h"
#include "kernels/kernels.h"

namespace lapidary {
namespace {

// The weights that this model was quantized from: provenance.source.content_hash; empty if unknown.
std::string source_hash(const Model& model) {
  const auto json =
      nlohmann::json::parse(model.file().metadata().provenance, nullptr, /*exceptions=*/false);
  if (!json.is_object() || !json.contains("source") || !json["source"].is_object()) return {};
  const auto& source = json["source"];
  if (!source.contains("content_hash") || !source["content_hash"].is_string()) return {};
  return source["content_hash"].get<std::string>();
}

// Foreign adapters record no hash and are taken on trust of their shapes. An adapter fits the exact
// base, its source, or another quantization of the same source.
void check_base(const PeftAdapter& peft, const Model& model, const std::string& where) {
  if (peft.base_hash.empty() && peft.base_source_hash.empty()) return;
  const std::string own = model.file().content_hash(), source = source_hash(model);
  for (const std::string& recorded : {peft.base_hash, peft.base_source_hash})
    if (!recorded.empty() && (recorded == own || recorded == source)) return;
  fail(ErrorCode::kBadData,
       "{}: adapter was made for base {}, but {} is {} (source {}); use it with its own base",
       where, peft.base_hash.empty() ? peft.base_source_hash : peft.base_hash,
       model.file().describe(), own, source.empty() ? "unknown" : source);
}

// DoRA: each row of W + s B A is scaled to its learned magnitude.
std::vector<float> dora_factors(const LoraModule& lora, const MatrixView& w, int64_t expert) {
  const float* a = lora.a.data() + expert * lora.rank * lora.in;
  const float* b = lora.b.data() + expert * lora.out * lora.rank;
  std::vector<float> factors(lora.out), row(lora.in);
  for (int64_t r = 0; r < lora.out; ++r) {
    kernels().dequantize_rows(w, r, 1, row.data());
    double sum = 0.0;
    for (int64_t c = 0; c < lora.in; ++c) {
      double delta = 0.0;
      for (int64_t i = 0; i < lora.rank; ++i)
        delta += double{b[r * lora.rank + i]} * double{a[i * lora.in + c]};
      const double value = double{row[c]} + double{lora.scale} * delta;
      sum += value * value;
    }
    if (!(sum > 0.0))
      fail(ErrorCode::kBadData, "{}: row {} of W + BA has norm 0, which DoRA divides by",
           lora.module, r);
    factors[r] = static_cast<float>(double{lora.magnitude[expert * lora.out + r]} / std::sqrt(sum));
  }
  return factors;
}

// The matrices behind a module: one, or those of a stack of experts. REQUIRES: check_fits.
std::span<const MatrixView> matrices_of(const LoraModule& lora, const Model& model) {
  if (lora.n_experts == 0) {
    const MatrixView* w = model.find_matrix(lora.module);
    if (!w || w == &model.embedding || w == &model.head) return {};
    return {w, 1};
  }
  const size_t number = std::string_view("model.layers.").size();
  const LayerWeights& layer = model.layers[std::stoul(lora.module.substr(number))];
  return is_expert_stack(lora.module, kExpertsGateUp) ? layer.expert_gate_up : layer.expert_down;
}

}  // namespace

std::shared_ptr<const Adapter> Adapter::make(const PeftAdapter& peft, const Model& model,
                                             const std::string& where) {
  check_base(peft, model, where);
  with_context(where, [&] { check_fits(peft, model.config()); });
  auto adapter = std::make_shared<Adapter>();
  adapter->model_ = &model;
  for (const LoraModule& lora : peft.modules) {
    const std::span<const MatrixView> views = matrices_of(lora, model);
    if (static_cast<int64_t>(views.size()) != lora.n_matrices())
      fail(ErrorCode::kBadData, "{}: module {} cannot carry an adapter in this model", where,
           lora.module);
    const int64_t a_size = lora.rank * lora.in, b_size = lora.out * lora.rank;
    for (size_t e = 0; e < views.size(); ++e) {
      const MatrixView& w = views[e];
      if (w.rows != lora.out || w.k != lora.in)
        fail(ErrorCode::kBadData, "{}: module {} is [{}, {}] in the adapter, [{}, {}] in the model",
             where, lora.module, lora.out, lora.in, w.rows, w.k);
      const auto a = lora.a.begin() + static_cast<int64_t>(e) * a_size;
      const auto b = lora.b.begin() + static_cast<int64_t>(e) * b_size;
      AdapterMatrix matrix{lora.rank, lora.in, lora.out, {a, a + a_size}, {b, b + b_size}, {}};
      for (float& value : matrix.b) value *= lora.scale;
      if (!lora.magnitude.empty())
        matrix.row_factor =
            with_context(where, [&] { return dora_factors(lora, w, static_cast<int64_t>(e)); });
      adapter->matrices_.emplace(&w, std::move(matrix));
    }
    adapter->max_rank_ = std::max(adapter->max_rank_, lora.rank);
  }
  return adapter;
}

std::shared_ptr<const Adapter> Adapter::load(const std::string& folder, const Model& model) {
  return make(read_peft(folder), model, folder);
}

std::string adapter_identity(const std::string& folder) {
  const MappedFile weights(folder + "/adapter_model.safetensors");
  const MappedFile config(folder + "/adapter_config.json");
  return to_hex(hash_bytes(weights.bytes())) + to_hex(hash_bytes(config.bytes()));
}

}  // namespace lapidary
