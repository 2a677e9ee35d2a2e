// The same A and B, named, turned and scaled as each reader wants them.
#include "export/adapter_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/gguf.h"
#include "formats/gguf_names.h"
#include "formats/provenance.h"
#include "formats/safetensors.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

std::span<const uint8_t> bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
}

std::vector<float> scaled(const std::vector<float>& values, float factor) {
  std::vector<float> out(values.size());
  std::transform(values.begin(), values.end(), out.begin(), [&](float v) { return v * factor; });
  return out;
}

// [rows, columns] to [columns, rows], filled up to `to_columns` x `to_rows` with zeros.
std::vector<float> transposed(const std::vector<float>& in, int64_t rows, int64_t columns,
                              int64_t to_rows, int64_t to_columns) {
  std::vector<float> out(static_cast<size_t>(to_columns * to_rows));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      out[static_cast<size_t>(c * to_rows + r)] = in[static_cast<size_t>(r * columns + c)];
  return out;
}

std::string adapter_card(const PeftAdapter& adapter, const std::string& library,
                         const std::string& usage) {
  return fmt::format(
      "---\nlibrary_name: {}\nbase_model: {}\n---\n\n# LoRA adapter\n\nExported by {} from a PEFT "
      "folder: {} modules, float32, scales folded in.\n\n| | |\n|---|---|\n| base | {} |\n| hash "
      "of the base | `{}` |\n\n## Use\n\n{}\n",
      library, Json(adapter.config.base_model_name).dump(), kToolVersion, adapter.modules.size(),
      adapter.config.base_model_name, adapter.base_hash, usage);
}

// llama.cpp multiplies the product of each expert's down_proj by the router's scale for it before
// it adds the adapter's, not after: the scale goes into B as well. [n_experts]; empty: no such
// scale.
std::vector<float> scales_after(const ModelSource& base, const LoraModule& m) {
  if (!is_expert_stack(m.module, kExpertsDown)) return {};
  const std::string layer =
      m.module.substr(0, m.module.size() - std::string_view(kExpertsDown).size());
  const auto& tensors = base.tensors();
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const SourceTensor& t) {
    return t.name == layer + "router.per_expert_scale";
  });
  if (found == tensors.end()) return {};
  std::vector<float> scales(static_cast<size_t>(found->elements()));
  base.read_rows(static_cast<size_t>(found - tensors.begin()), 0, found->rows(), scales);
  LAPIDARY_CHECK(static_cast<int64_t>(scales.size()) == m.n_experts);
  return scales;
}

// B as llama.cpp multiplies by it, when it multiplies all by alpha / rank.
std::vector<float> gguf_b(const LoraModule& m, const GgufPlace& place, const ModelSource& base,
                          float alpha) {
  const size_t rank = static_cast<size_t>(m.rank);
  const float wanted = m.scale * static_cast<float>(m.rank);
  std::vector<float> b = wanted == alpha ? m.b : scaled(m.b, wanted / alpha);
  if (place.interleaved_head != 0) {
    std::vector<float> moved(b.size());
    for (int64_t row = 0; row < m.out; ++row)
      std::copy_n(&b[static_cast<size_t>(source_row(place, row)) * rank], rank,
                  &moved[static_cast<size_t>(row) * rank]);
    b = std::move(moved);
  }
  const std::vector<float> scales = scales_after(base, m);
  const size_t expert = static_cast<size_t>(m.out) * rank;
  for (size_t i = 0; i < b.size() && !scales.empty(); ++i) b[i] *= scales[i / expert];
  return b;
}

GgufPlace place_of(const LoraModule& m, const ModelConfig& config) {
  return gguf_place(config, m.n_experts > 0 ? m.module : m.module + ".weight");
}

// What mlx-lm has as one module: ours, or one part of a stack, whose gate and up are apart there.
struct MlxModule {
  std::string key;
  const LoraModule* lora;
  int64_t first_row, rows;  // of each of the module's matrices
};

std::vector<MlxModule> mlx_modules(const PeftAdapter& adapter) {
  std::vector<MlxModule> out;
  for (const LoraModule& m : adapter.modules) {
    if (m.n_experts == 0) {
      out.push_back({m.module, &m, 0, m.out});
      continue;
    }
    if (adapter.config.dora)
      fail(ErrorCode::kBadData,
           "a DoRA adapter on experts ({}): mlx-lm has none; merge it (lapidary merge) and export "
           "the model",
           m.module);
    const std::string experts = m.module.substr(0, m.module.rfind('.')) + ".switch_glu.";
    if (is_expert_stack(m.module, kExpertsDown)) {
      out.push_back({experts + "down_proj", &m, 0, m.out});
      continue;
    }
    out.push_back({experts + "gate_proj", &m, 0, m.out / 2});
    out.push_back({experts + "up_proj", &m, m.out / 2, m.out / 2});
  }
  return out;
}

// A stack's [n_experts, rank, in], filled up to `rank`.
std::vector<float> stacked_a(const LoraModule& m, int64_t rank) {
  std::vector<float> out(static_cast<size_t>(m.n_experts * rank * m.in));
  for (int64_t e = 0; e < m.n_experts; ++e)
    std::copy_n(m.a.begin() + e * m.rank * m.in, m.rank * m.in, out.begin() + e * rank * m.in);
  return out;
}

// Some rows of each expert, [n_experts, rows, rank].
std::vector<float> stacked_b(const MlxModule& part, int64_t rank) {
  const LoraModule& m = *part.lora;
  std::vector<float> out(static_cast<size_t>(m.n_experts * part.rows * rank));
  for (int64_t e = 0; e < m.n_experts; ++e)
    for (int64_t r = 0; r < part.rows; ++r)
      std::copy_n(m.b.begin() + (e * m.out + part.first_row + r) * m.rank, m.rank,
                  out.begin() + (e * part.rows + r) * rank);
  return out;
}

}  // namespace

AdapterReport export_adapter_gguf(const PeftAdapter& adapter, const ModelSource& base,
                                  const std::string& file) {
  const ModelConfig& config = base.metadata().config;
  check_fits(adapter, config);
  if (adapter.config.dora)
    fail(ErrorCode::kBadData,
         "a DoRA adapter: llama.cpp has no place for its magnitudes; merge it (lapidary merge) and "
         "export the model");
  const LoraModule& first = adapter.modules.front();
  // The reader multiplies by alpha / rank of each tensor.
  const float alpha = first.scale * static_cast<float>(first.rank);
  const std::vector<GgufPair> pairs{{"general.architecture", config.family},
                                    {"general.type", std::string("adapter")},
                                    {"general.name", adapter.config.base_model_name},
                                    {"adapter.type", std::string("lora")},
                                    {"adapter.lora.alpha", alpha}};
  std::vector<GgufTensor> tensors;
  for (const LoraModule& m : adapter.modules) {
    const GgufPlace place = place_of(m, config);
    std::vector<int64_t> a{m.rank, m.in}, b{m.out, m.rank};
    if (m.n_experts > 0)
      for (std::vector<int64_t>* shape : {&a, &b}) shape->insert(shape->begin(), m.n_experts);
    tensors.push_back({place.name + ".lora_a", a, GgmlType::kF32});
    tensors.push_back({place.name + ".lora_b", b, GgmlType::kF32});
  }
  GgufWriter writer(file, pairs, tensors);
  AdapterReport report{adapter.modules.size(), 0};
  for (const LoraModule& m : adapter.modules) {
    const std::vector<float> b = gguf_b(m, place_of(m, config), base, alpha);
    writer.append(bytes_of(m.a));
    writer.append(bytes_of(b));
    report.bytes += 4 * (m.a.size() + b.size());
  }
  writer.commit();
  return report;
}

AdapterReport export_adapter_mlx(const PeftAdapter& adapter, const ModelSource& base,
                                 const std::string& folder, bool overwrite) {
  check_fits(adapter, base.metadata().config);
  int64_t rank = 0;
  for (const LoraModule& m : adapter.modules) rank = std::max(rank, m.rank);
  const float scale = adapter.modules.front().scale;
  std::vector<std::string> keys;
  std::vector<std::vector<float>> values;
  std::vector<SafetensorsTensor> header;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, std::vector<float> v) {
    header.push_back({name, DType::kF32, std::move(shape)});
    values.push_back(std::move(v));
  };
  for (const MlxModule& part : mlx_modules(adapter)) {
    const LoraModule& m = *part.lora;
    keys.push_back(part.key);
    const bool stack = m.n_experts > 0;
    std::vector<float> b =
        stack ? stacked_b(part, rank) : transposed(m.b, m.out, m.rank, m.out, rank);
    if (m.scale != scale) b = scaled(b, m.scale / scale);
    if (stack) {
      add(part.key + ".lora_a", {m.n_experts, rank, m.in}, stacked_a(m, rank));
      add(part.key + ".lora_b", {m.n_experts, part.rows, rank}, std::move(b));
      continue;
    }
    add(part.key + ".lora_a", {m.in, rank}, transposed(m.a, m.rank, m.in, rank, m.in));
    add(part.key + ".lora_b", {rank, m.out}, std::move(b));
    if (adapter.config.dora) add(part.key + ".m", {m.out}, m.magnitude);
  }
  AtomicFolder output(folder, overwrite);
  AdapterReport report{adapter.modules.size(), 0};
  SafetensorsWriter writer(output.temporary() + "/adapters.safetensors", header,
                           {{"format", "mlx"}});
  for (const std::vector<float>& v : values) {
    writer.append(bytes_of(v));
    report.bytes += 4 * v.size();
  }
  writer.commit();
  const Json config{
      {"fine_tune_type", adapter.config.dora ? "dora" : "lora"},
      {"num_layers", base.metadata().config.n_layers()},
      {"lora_parameters", {{"rank", rank}, {"scale", scale}, {"dropout", 0.0}, {"keys", keys}}}};
  write_text_atomically(output.temporary() + "/adapter_config.json", config.dump(2) + "\n");
  write_text_atomically(
      output.temporary() + "/README.md",
      adapter_card(adapter, "mlx",
                   "```\nmlx_lm.generate --model BASE --adapter-path path/to/this/folder\n```"));
  output.commit();
  return report;
}

}  // namespace lapidary
