// What each matrix becomes, the config that says so, and the rows.
#include "export/mlx_export.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "export/hf_config.h"
#include "export/integer_groups.h"
#include "export/integer_rows.h"
#include "export/integer_scheme.h"
#include "export/model_folder.h"
#include "formats/error.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

bool is_matrix(const std::string& name) {
  return !quantizable_module(name).empty() || is_sensitive_linear(name) ||
         name == "lm_head.weight" || name == "model.embed_tokens.weight" ||
         name == "model.embed_tokens_per_layer.weight";
}

IntegerScheme choose(const LapTensor& t, const MlxOptions& options, FolderReport* report) {
  const CodeTraits& code = traits(t.code);
  if (!is_matrix(t.name)) return {};
  const int nearest = code.is_float ? 0 : code.bits <= 4 ? 4 : 8;
  IntegerScheme scheme{options.bits.value_or(nearest), 64};
  if (scheme.bits == 0) return {};
  // Never below 8 bits, as in our own plain codes.
  if (is_sensitive_linear(t.name) && !has_integer_rows(t)) scheme.bits = 8;
  if (has_integer_rows(t) && code.bits <= scheme.bits) scheme.group = IntegerRow::kGroup;
  scheme.group = options.group.value_or(scheme.group);
  const int64_t wanted = scheme.group, k = t.shape.back();
  while (scheme.group > 32 && k % scheme.group != 0) scheme.group /= 2;
  if (k % scheme.group != 0) scheme = {};
  if (scheme.group != wanted)
    report->notes.push_back(fmt::format("{}: rows of {} do not divide into groups of {}: {}",
                                        t.name, k, wanted,
                                        scheme.bits ? scheme_text(scheme) : "a float"));
  return scheme;
}

// The model's own integers; the level that index 0 stands for becomes the bias.
void take_over(const LapReader& model, size_t source, const IntegerScheme& scheme, int64_t first,
               int64_t count, std::span<const std::span<uint8_t>> parts) {
  const LapTensor& t = model.index()[source];
  const float zero = -static_cast<float>(1 << (traits(t.code).bits - 1));
  const size_t packed_bytes = parts[0].size() / static_cast<size_t>(count);
  const size_t scale_bytes = parts[1].size() / static_cast<size_t>(count);
  for_integer_rows(model, t, first, count, [&](int64_t at, const IntegerRow& row) {
    const size_t r = static_cast<size_t>(at - first);
    pack_indices(scheme.bits, row.indices, parts[0].subspan(r * packed_bytes, packed_bytes));
    std::memcpy(&parts[1][r * scale_bytes], row.scales.data(), scale_bytes);
    for (size_t g = 0; g < row.scales.size(); ++g) {
      // A power of two times a scale is exact unless it overflows.
      const uint16_t bias =
          float_to_scale(t.scale_type, zero * scale_to_float(t.scale_type, row.scales[g]));
      if (!std::isfinite(scale_to_float(t.scale_type, bias)))
        fail(ErrorCode::kBadData, "{}: row {} has a scale of {}, too large for a float16 bias",
             t.name, at, scale_to_float(t.scale_type, row.scales[g]));
      std::memcpy(&parts[2][r * scale_bytes + g * sizeof(bias)], &bias, sizeof(bias));
    }
  });
}

void round_rows(const LapReader& model, size_t source, const IntegerScheme& scheme, int64_t first,
                int64_t count, std::span<const std::span<uint8_t>> parts) {
  const size_t k = static_cast<size_t>(model.tensors()[source].k());
  const size_t group = static_cast<size_t>(scheme.group);
  std::vector<float> values(static_cast<size_t>(count) * k);
  model.read_rows(source, first, count, values);
  std::vector<uint8_t> indices(values.size());
  round_affine(scheme.bits, group, values, indices, parts[1], parts[2]);
  pack_indices(scheme.bits, indices, parts[0]);
}

// A module's path in mlx-lm and the rows that it takes of our tensor.
struct Module {
  std::string path;
  RowSlice rows;
  std::vector<int64_t> shape;  // without k
};

std::vector<Module> modules_of(const SourceTensor& t) {
  if (t.shape.size() != 3) {
    const size_t dot = t.name.rfind(".weight");
    return {{t.name.substr(0, dot), {0, t.rows(), t.rows(), 1}, {t.rows()}}};
  }
  const size_t dot = t.name.rfind('.');
  const std::string base = t.name.substr(0, dot) + ".switch_glu.";
  const int64_t n = t.shape[0], rows = t.shape[1], half = rows / 2;
  if (!t.name.ends_with("gate_up_proj"))
    return {{base + "down_proj", {0, n * rows, n * rows, 1}, {n, rows}}};
  return {{base + "gate_proj", {0, half, rows, n}, {n, half}},
          {base + "up_proj", {half, half, rows, n}, {n, half}}};
}

FolderTensor quantized_module(const LapReader& model, size_t source, const Module& module,
                              const IntegerScheme& scheme) {
  const LapTensor& t = model.index()[source];
  const bool taken_over = is_taken_over(t, scheme);
  const DType float_type =
      taken_over && t.scale_type == ScaleType::kF16 ? DType::kF16 : DType::kBF16;
  const auto shape = [&](int64_t last) {
    std::vector<int64_t> with_last = module.shape;
    with_last.push_back(last);
    return with_last;
  };
  const int64_t k = t.shape.back();
  FolderTensor out{source, module.rows, {}, {}};
  out.parts.push_back({{module.path + ".weight", DType::kU32, shape(k * scheme.bits / 32)}});
  for (const char* name : {".scales", ".biases"})
    out.parts.push_back({{module.path + name, float_type, shape(k / scheme.group)}});
  out.encode = integer_encoder(model, source, scheme, take_over, round_rows);
  return out;
}

void add_floats(const LapReader& model, size_t source, std::vector<FolderTensor>* plan) {
  const SourceTensor& t = model.tensors()[source];
  FolderTensor tensor = float_tensor(model, source);
  if (t.shape.size() == 3)
    for (const Module& module : modules_of(t)) {
      std::vector<int64_t> shape = module.shape;
      shape.push_back(t.k());
      tensor.rows = module.rows;
      tensor.parts[0].tensor = {module.path + ".weight", tensor.parts[0].tensor.dtype, shape};
      plan->push_back(tensor);
    }
  else
    plan->push_back(std::move(tensor));
}

// The scheme of the most weights, and by name what differs from it.
class Quantization {
 public:
  void add(const std::string& path, const IntegerScheme& scheme, int64_t values) {
    modules_.push_back({path, scheme});
    count_.add(scheme, values);
  }
  Json json() const {
    if (modules_.empty()) return nullptr;
    Json json = scheme_json(count_.most());
    for (const auto& [path, scheme] : modules_)
      if (scheme != count_.most()) json[path] = scheme_json(scheme);
    return json;
  }

 private:
  static Json scheme_json(const IntegerScheme& scheme) {
    return {{"group_size", scheme.group}, {"bits", scheme.bits}, {"mode", "affine"}};
  }
  std::vector<std::pair<std::string, IntegerScheme>> modules_;
  SchemeCount count_;
};

std::string config_json(const LapReader& model, const Json& quantization) {
  // mlx-lm knows the older spelling of every family.
  Json config = Json::parse(hf_config_json(model.metadata().config, HfDialect::kFlat));
  if (!quantization.is_null())
    for (const char* key : {"quantization", "quantization_config"}) config[key] = quantization;
  return config.dump(2) + "\n";
}

}  // namespace

FolderReport export_mlx(const LapReader& model, const std::string& folder,
                        const MlxOptions& options, const Events& events) {
  ModelFolder out;
  FolderReport& report = out.report;
  Quantization quantization;
  bool any_half_scale = false;
  for (size_t i = 0; i < model.index().size(); ++i) {
    const LapTensor& t = model.index()[i];
    const IntegerScheme scheme = choose(t, options, &report);
    if (scheme.bits == 0) {
      add_floats(model, i, &out.tensors);
      report.tensors.push_back(float_report(t.name, t.code));
      continue;
    }
    for (const Module& module : modules_of(model.tensors()[i])) {
      out.tensors.push_back(quantized_module(model, i, module, scheme));
      quantization.add(module.path, scheme, module.rows.rows() * t.shape.back());
    }
    report.tensors.push_back(integer_report(t, scheme));
    any_half_scale |= is_taken_over(t, scheme) && t.scale_type == ScaleType::kF16;
  }
  if (any_half_scale)
    report.notes.push_back(
        "scales taken over are float16 as in the source, beside bfloat16 norms: MLX then computes "
        "in float32");
  out.config_json = config_json(model, quantization.json());
  out.library = out.format = "mlx";
  out.integers = "MLX's affine integers";
  out.usage = "```\nmlx_lm.generate --model path/to/this/folder --prompt \"Hello\"\n```";
  return write_model_folder(model, folder, std::move(out), options.card, options.folder, events);
}

}  // namespace lapidary
