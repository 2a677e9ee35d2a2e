// Modules and their parts, the config that names them, and the rows.
#include "export/compressed_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "export/hf_config.h"
#include "export/integer_groups.h"
#include "export/integer_rows.h"
#include "export/model_folder.h"
#include "formats/dtype.h"
#include "formats/error.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

// The model's own integers and scales; a code of fewer bits keeps its values in the wider indices.
void take_over(const LapReader& model, size_t source, const IntegerScheme& scheme, int64_t first,
               int64_t count, std::span<const std::span<uint8_t>> parts) {
  const LapTensor& t = model.index()[source];
  const uint8_t shift =
      static_cast<uint8_t>((1 << (scheme.bits - 1)) - (1 << (traits(t.code).bits - 1)));
  const size_t packed_bytes = parts[0].size() / static_cast<size_t>(count);
  const size_t scale_bytes = parts[1].size() / static_cast<size_t>(count);
  std::vector<uint8_t> indices;
  for_integer_rows(model, t, first, count, [&](int64_t at, const IntegerRow& row) {
    const size_t r = static_cast<size_t>(at - first);
    indices = row.indices;
    for (uint8_t& index : indices) index = static_cast<uint8_t>(index + shift);
    pack_indices(scheme.bits, indices, parts[0].subspan(r * packed_bytes, packed_bytes));
    std::memcpy(&parts[1][r * scale_bytes], row.scales.data(), scale_bytes);
  });
}

void round_rows(const LapReader& model, size_t source, const IntegerScheme& scheme, int64_t first,
                int64_t count, std::span<const std::span<uint8_t>> parts) {
  const size_t k = static_cast<size_t>(model.tensors()[source].k());
  const size_t group = scheme.group == 0 ? k : static_cast<size_t>(scheme.group);
  std::vector<float> values(static_cast<size_t>(count) * k);
  model.read_rows(source, first, count, values);
  std::vector<uint8_t> indices(values.size());
  round_symmetric(scheme.bits, group, values, indices, parts[1]);
  pack_indices(scheme.bits, indices, parts[0]);
}

// One linear layer of the folder, made of a slice of a tensor's rows.
FolderTensor quantized_module(const LapReader& model, size_t source, const RowSlice& rows,
                              const std::string& module, const IntegerScheme& scheme) {
  const LapTensor& t = model.index()[source];
  const bool taken_over = is_taken_over(t, scheme);
  const int64_t k = t.shape.back(), n = rows.rows();
  const DType scale_type =
      taken_over && t.scale_type == ScaleType::kF16 ? DType::kF16 : DType::kBF16;
  FolderTensor out{source, rows, {}, {}};
  out.parts.push_back({{module + ".weight_packed", DType::kI32, {n, k * scheme.bits / 32}}});
  out.parts.push_back(
      {{module + ".weight_scale", scale_type, {n, scheme.group == 0 ? 1 : k / scheme.group}}});
  const auto shape = std::bit_cast<std::array<uint8_t, 16>>(std::array<int64_t, 2>{n, k});
  out.parts.push_back({{module + ".weight_shape", DType::kI64, {2}}, {shape.begin(), shape.end()}});
  out.encode = integer_encoder(model, source, scheme, take_over, round_rows);
  return out;
}

// vLLM loads quantized experts one by one, gate and up apart.
void add_experts(const LapReader& model, size_t source, const std::string& module,
                 const IntegerScheme& scheme, std::vector<FolderTensor>* plan) {
  const LapTensor& t = model.index()[source];
  const size_t dot = module.rfind('.');
  const std::string experts = module.substr(0, dot), name = module.substr(dot + 1);
  const std::vector<std::string> names = name == "gate_up_proj"
                                             ? std::vector<std::string>{"gate_proj", "up_proj"}
                                             : std::vector<std::string>{name};
  const int64_t rows = t.shape[1] / static_cast<int64_t>(names.size());
  int64_t first = 0;
  for (int64_t e = 0; e < t.shape[0]; ++e)
    for (const std::string& part : names) {
      plan->push_back(quantized_module(model, source, {first, rows, rows, 1},
                                       fmt::format("{}.{}.{}", experts, e, part), scheme));
      first += rows;
    }
}

Json weights_json(const IntegerScheme& scheme) {
  return {{"num_bits", scheme.bits},
          {"type", "int"},
          {"symmetric", true},
          {"strategy", scheme.group == 0 ? "channel" : "group"},
          {"group_size", scheme.group == 0 ? Json(nullptr) : Json(scheme.group)},
          {"dynamic", false},
          {"actorder", nullptr}};
}

// bf16, rounded up so that the largest magnitude stays within E4M3's range.
FolderPart cache_scale(const std::string& name, float magnitude) {
  constexpr float kLargestE4M3 = 448;
  const float scale = magnitude > 0 ? magnitude / kLargestE4M3 : 1;
  uint16_t bits = float_to_bf16(scale);
  if (bf16_to_float(bits) < scale) ++bits;
  const auto bytes = std::bit_cast<std::array<uint8_t, 2>>(bits);
  return {{name, DType::kBF16, {1}}, {bytes.begin(), bytes.end()}};
}

void add_cache_scales(const std::vector<KvRange>& layers, std::vector<FolderTensor>* plan) {
  for (size_t l = 0; l < layers.size(); ++l) {
    const std::string attention = fmt::format("model.layers.{}.self_attn.", l);
    plan->push_back({0,
                     {},
                     {cache_scale(attention + "k_scale", layers[l].keys),
                      cache_scale(attention + "v_scale", layers[l].values)},
                     {}});
  }
}

// The scheme of the most weights stands for every Linear; others name their modules, and what
// stays a float is ignored by name.
class Groups {
 public:
  void add(const LapTensor& t, const std::string& module, const IntegerScheme& scheme) {
    // vLLM and this folder name the path to experts differently, so they are matched loosely.
    const std::string layer = module.substr(0, module.find(".experts."));
    const bool experts = t.shape.size() == 3;
    const std::string target = experts ? fmt::format("re:{}\\..*experts.*", layer) : module;
    std::vector<std::string>& list = scheme.bits == 0 ? ignore_ : targets_of(scheme);
    if (std::find(list.begin(), list.end(), target) == list.end()) list.push_back(target);
    if (scheme.bits != 0) count_.add(scheme, t.elements());
  }
  void ignore(const std::string& module) { ignore_.push_back(module); }
  bool empty() const { return groups_.empty(); }

  Json json(bool fp8_cache) const {
    Json groups;
    for (const auto& [scheme, targets] : groups_)
      groups[fmt::format("group_{}", groups.size())] = {
          {"targets", scheme == count_.most() ? Json::array({"Linear"}) : Json(targets)},
          {"weights", weights_json(scheme)},
          {"input_activations", nullptr},
          {"output_activations", nullptr},
          {"format", "pack-quantized"}};
    return {{"quant_method", "compressed-tensors"},
            {"format", "pack-quantized"},
            {"quantization_status", "compressed"},
            {"global_compression_ratio", nullptr},
            {"config_groups", groups},
            {"ignore", ignore_},
            {"kv_cache_scheme", fp8_cache ? fp8_cache_json() : Json(nullptr)}};
  }

 private:
  static Json fp8_cache_json() {
    return {{"num_bits", 8},        {"type", "float"},       {"symmetric", true},
            {"strategy", "tensor"}, {"group_size", nullptr}, {"dynamic", false}};
  }
  std::vector<std::string>& targets_of(const IntegerScheme& scheme) {
    for (auto& [known, targets] : groups_)
      if (known == scheme) return targets;
    return groups_.emplace_back(scheme, std::vector<std::string>()).second;
  }
  std::vector<std::pair<IntegerScheme, std::vector<std::string>>> groups_;
  SchemeCount count_;
  std::vector<std::string> ignore_;
};

void add_notes(const LapReader& model, const std::vector<IntegerScheme>& schemes,
               FolderReport* report) {
  int n_narrow = 0, n_half_scales = 0;
  std::string example;
  for (size_t i = 0; i < schemes.size(); ++i) {
    const LapTensor& t = model.index()[i];
    if (schemes[i].bits == 0) continue;
    n_half_scales += is_taken_over(t, schemes[i]) && t.scale_type == ScaleType::kF16;
    if (t.shape.back() % 128 == 0) continue;
    if (n_narrow++ == 0) example = fmt::format("{} has {}", t.name, t.shape.back());
  }
  if (n_narrow > 0)
    report->notes.push_back(fmt::format(
        "vLLM's Marlin kernels want rows of whole 128 inputs; {} matrices have others ({}) and "
        "need another kernel",
        n_narrow, example));
  if (n_half_scales > 0)
    report->notes.push_back(fmt::format(
        "the scales of {} matrices are float16 as in the source; a runtime in bfloat16 rounds them",
        n_half_scales));
  const std::string& kv = model.metadata().kv;
  if (!kv.empty() && kv != "{}")
    report->notes.push_back(fmt::format(
        "the KV cache chosen for this model ({}) has no name in compressed-tensors; the packed one "
        "that vLLM reads from a checkpoint is FP8 (--kv fp8)",
        kv));
}

}  // namespace

FolderReport export_compressed_tensors(const LapReader& model, const std::string& folder,
                                       const CompressedTensorsOptions& options,
                                       const Events& events) {
  ModelFolder out;
  FolderReport& report = out.report;
  Groups groups;
  const std::vector<IntegerScheme> schemes = choose_schemes(model, options.integers, &report.notes);
  for (size_t i = 0; i < schemes.size(); ++i) {
    const LapTensor& t = model.index()[i];
    const IntegerScheme& scheme = schemes[i];
    const std::string module = quantizable_module(t.name);
    if (!module.empty()) groups.add(t, module, scheme);
    if (is_sensitive_linear(t.name)) groups.ignore(t.name.substr(0, t.name.rfind('.')));
    if (scheme.bits == 0)
      out.tensors.push_back(float_tensor(model, i));
    else if (t.shape.size() == 3)
      add_experts(model, i, module, scheme, &out.tensors);
    else
      out.tensors.push_back(
          quantized_module(model, i, {0, t.shape[0], t.shape[0], 1}, module, scheme));
    report.tensors.push_back(scheme.bits == 0 ? float_report(t.name, t.code)
                                              : integer_report(t, scheme));
  }
  if (groups.empty())
    fail(ErrorCode::kUsage,
         "{}: holds floats only, and none would be quantized; give --type int4 or --type int8",
         model.describe());
  LAPIDARY_CHECK(options.fp8_cache.empty() ||
                 options.fp8_cache.size() == model.metadata().config.layers.size());
  add_cache_scales(options.fp8_cache, &out.tensors);
  groups.ignore("lm_head");
  add_notes(model, schemes, &report);

  // The spelling that every version of vLLM and transformers reads.
  Json config = Json::parse(hf_config_json(model.metadata().config, HfDialect::kFlat));
  config["quantization_config"] = groups.json(!options.fp8_cache.empty());
  out.config_json = config.dump(2) + "\n";
  out.library = "vllm";
  out.integers = "compressed-tensors integers";
  out.usage = "```\nvllm serve path/to/this/folder\n```";
  return write_model_folder(model, folder, std::move(out), options.card, options.folder, events);
}

}  // namespace lapidary
