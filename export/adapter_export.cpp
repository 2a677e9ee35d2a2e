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

// Readers name and stack the experts' parts each in their own way.
void refuse_experts(const PeftAdapter& adapter) {
  for (const LoraModule& m : adapter.modules)
    if (m.n_experts > 0)
      fail(ErrorCode::kBadData,
           "an adapter on experts ({}): this export has no place for it; merge it (lapidary merge) "
           "and export the model",
           m.module);
}

}  // namespace

AdapterReport export_adapter_gguf(const PeftAdapter& adapter, const ModelConfig& base,
                                  const std::string& file) {
  check_fits(adapter, base);
  refuse_experts(adapter);
  if (adapter.config.dora)
    fail(ErrorCode::kBadData,
         "a DoRA adapter: llama.cpp has no place for its magnitudes; merge it (lapidary merge) and "
         "export the model");
  const LoraModule& first = adapter.modules.front();
  // The reader multiplies by alpha / rank of each tensor.
  const float alpha = first.scale * static_cast<float>(first.rank);
  const std::vector<GgufPair> pairs{{"general.architecture", base.family},
                                    {"general.type", std::string("adapter")},
                                    {"general.name", adapter.config.base_model_name},
                                    {"adapter.type", std::string("lora")},
                                    {"adapter.lora.alpha", alpha}};
  std::vector<GgufTensor> tensors;
  for (const LoraModule& m : adapter.modules) {
    const GgufPlace place = gguf_place(base, m.module + ".weight");
    tensors.push_back({place.name + ".lora_a", {m.rank, m.in}, GgmlType::kF32});
    tensors.push_back({place.name + ".lora_b", {m.out, m.rank}, GgmlType::kF32});
  }
  GgufWriter writer(file, pairs, tensors);
  AdapterReport report{adapter.modules.size(), 0};
  for (const LoraModule& m : adapter.modules) {
    const GgufPlace place = gguf_place(base, m.module + ".weight");
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
    writer.append(bytes_of(m.a));
    writer.append(bytes_of(b));
    report.bytes += 4 * (m.a.size() + b.size());
  }
  writer.commit();
  return report;
}

AdapterReport export_adapter_mlx(const PeftAdapter& adapter, const ModelConfig& base,
                                 const std::string& folder, bool overwrite) {
  check_fits(adapter, base);
  refuse_experts(adapter);
  int64_t rank = 0;
  for (const LoraModule& m : adapter.modules) rank = std::max(rank, m.rank);
  const float scale = adapter.modules.front().scale;
  std::vector<std::string> keys;
  std::vector<std::vector<float>> values;
  std::vector<SafetensorsTensor> header;
  for (const LoraModule& m : adapter.modules) {
    keys.push_back(m.module);
    header.push_back({m.module + ".lora_a", DType::kF32, {m.in, rank}});
    values.push_back(transposed(m.a, m.rank, m.in, rank, m.in));
    header.push_back({m.module + ".lora_b", DType::kF32, {rank, m.out}});
    const std::vector<float> b = m.scale == scale ? m.b : scaled(m.b, m.scale / scale);
    values.push_back(transposed(b, m.out, m.rank, m.out, rank));
    if (!adapter.config.dora) continue;
    header.push_back({m.module + ".m", DType::kF32, {m.out}});
    values.push_back(m.magnitude);
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
      {"num_layers", base.n_layers()},
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
