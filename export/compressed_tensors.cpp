// Modules and their parts, the config that names them, and the rows.
#include "export/compressed_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "export/folder_files.h"
#include "export/hf_config.h"
#include "export/integer_groups.h"
#include "export/integer_rows.h"
#include "formats/dtype.h"
#include "formats/error.h"
#include "formats/file.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

// The model's own integers and scales; a code of fewer bits keeps its values in the wider indices.
void take_over(const LapReader& model, const LapTensor& t, const IntegerScheme& scheme,
               int64_t first, int64_t count, std::span<const std::span<uint8_t>> parts) {
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
  for (size_t i = 0; i < values.size(); i += group) {
    const uint16_t scale = round_symmetric(scheme.bits, std::span(values).subspan(i, group),
                                           std::span(indices).subspan(i, group));
    std::memcpy(&parts[1][i / group * sizeof(scale)], &scale, sizeof(scale));
  }
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
  out.encode = [&model, source, scheme, taken_over](int64_t first, int64_t count,
                                                    std::span<const std::span<uint8_t>> parts) {
    if (taken_over)
      take_over(model, model.index()[source], scheme, first, count, parts);
    else
      round_rows(model, source, scheme, first, count, parts);
  };
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

// The scheme of the most weights stands for every Linear; others name their modules, and what
// stays a float is ignored by name.
class Groups {
 public:
  void add(const LapTensor& t, const std::string& module, const IntegerScheme& scheme) {
    const bool experts = t.shape.size() == 3;
    // vLLM and this folder name the path to experts differently, so they are matched loosely.
    const std::string layer = module.substr(0, module.find(".experts."));
    const std::string target = experts ? fmt::format("re:{}\\..*experts.*", layer) : module;
    std::vector<std::string>& list = scheme.bits == 0 ? ignore_ : groups_[key(scheme)].targets;
    if (std::find(list.begin(), list.end(), target) == list.end()) list.push_back(target);
    if (scheme.bits != 0) groups_[key(scheme)].values += t.elements();
  }
  void ignore(const std::string& module) { ignore_.push_back(module); }
  bool empty() const { return groups_.empty(); }

  Json json() const {
    const auto main = std::max_element(groups_.begin(), groups_.end(), [](auto& a, auto& b) {
      return a.second.values < b.second.values;
    });
    Json groups;
    for (const auto& [scheme, group] : groups_) {
      const bool is_main = scheme == main->first;
      groups[fmt::format("group_{}", groups.size())] = {
          {"targets", is_main ? Json::array({"Linear"}) : Json(group.targets)},
          {"weights", weights_json({scheme.first, scheme.second})},
          {"input_activations", nullptr},
          {"output_activations", nullptr},
          {"format", "pack-quantized"}};
    }
    return {{"quant_method", "compressed-tensors"},
            {"format", "pack-quantized"},
            {"quantization_status", "compressed"},
            {"global_compression_ratio", nullptr},
            {"config_groups", groups},
            {"ignore", ignore_},
            {"kv_cache_scheme", nullptr}};
  }

 private:
  struct Group {
    std::vector<std::string> targets;
    int64_t values = 0;
  };
  static std::pair<int, int64_t> key(const IntegerScheme& s) { return {s.bits, s.group}; }
  std::map<std::pair<int, int64_t>, Group> groups_;
  std::vector<std::string> ignore_;
};

// Linear layers of the model that stay floats whatever the options.
bool is_unquantized_linear(const std::string& name) {
  return name.ends_with("router.proj.weight") ||
         name.ends_with("per_layer_model_projection.weight");
}

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
        "the KV cache chosen for this model ({}) has no name in compressed-tensors, whose scheme "
        "knows only FP8: kv_cache_scheme is null",
        kv));
}

}  // namespace

FolderReport export_compressed_tensors(const LapReader& model, const std::string& folder,
                                       const CompressedTensorsOptions& options,
                                       const Events& events) {
  const auto start = std::chrono::steady_clock::now();
  FolderReport report;
  std::vector<FolderTensor> plan;
  Groups groups;
  bool any_rounded = false, any_dequantized = false;
  const std::vector<IntegerScheme> schemes = choose_schemes(model, options.integers, &report.notes);
  for (size_t i = 0; i < schemes.size(); ++i) {
    const LapTensor& t = model.index()[i];
    const std::string module = quantizable_module(t.name);
    if (!module.empty()) groups.add(t, module, schemes[i]);
    if (is_unquantized_linear(t.name)) groups.ignore(t.name.substr(0, t.name.rfind('.')));
    const bool is_float = traits(t.code).is_float;
    if (schemes[i].bits == 0) {
      plan.push_back(float_tensor(model, i));
      const Code code = is_float ? t.code : Code::kBF16;
      report.tensors.push_back({t.name, t.code, std::string(code_name(code)), is_float});
      any_dequantized |= !is_float;
      continue;
    }
    if (t.shape.size() == 3)
      add_experts(model, i, module, schemes[i], &plan);
    else
      plan.push_back(
          quantized_module(model, i, {0, t.shape[0], t.shape[0], 1}, module, schemes[i]));
    const bool exact = is_taken_over(t, schemes[i]);
    report.tensors.push_back({t.name, t.code, scheme_text(schemes[i]), exact});
    any_rounded |= !exact;
  }
  if (groups.empty())
    fail(ErrorCode::kUsage,
         "{}: holds floats only, and none would be quantized; give --type int4 or --type int8",
         model.describe());
  groups.ignore("lm_head");
  for (const FolderTensor& tensor : plan) report.bytes += folder_bytes(tensor);
  add_notes(model, schemes, &report);

  AtomicFolder output(folder, options.folder.overwrite);
  ModelCard card = options.card;
  card.title = std::filesystem::path(folder).filename().string();
  card.library = "vllm";
  card.content_hash = model.content_hash();
  if (any_rounded)
    card.lossy_steps.push_back("weights were rounded to compressed-tensors integers");
  if (any_dequantized)
    card.lossy_steps.push_back("quantized embeddings were written as bf16 of their values");
  card.notes.insert(card.notes.end(), report.notes.begin(), report.notes.end());
  card.usage = "```\nvllm serve path/to/this/folder\n```";
  // The spelling that every version of vLLM and transformers reads.
  Json config = Json::parse(hf_config_json(model.metadata().config, HfDialect::kFlat));
  config["quantization_config"] = groups.json();
  write_folder_files(model, output.temporary(), config.dump(2) + "\n", card);
  report.n_shards =
      write_shards(model, output.temporary(), plan, options.folder, {{"format", "pt"}}, events);
  output.commit();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace lapidary
