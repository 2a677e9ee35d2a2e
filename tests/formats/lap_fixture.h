// Small .lap files with known content, for the tests of the format. The content is a pure function
// of the code here: a kept fixture and a hexdump in docs/format.md depend on it.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "formats/float_codes.h"
#include "formats/lap.h"

namespace lapidary {

inline ModelMetadata small_metadata() {
  ModelMetadata m;
  m.config.family = "llama";
  m.config.d_model = 4;
  m.config.vocab_size = 8;
  m.config.max_context = 16;
  LayerConfig layer;
  layer.head_dim = 4;
  layer.n_heads = layer.n_kv_heads = 1;
  layer.d_ff = 4;
  m.config.layers = {layer};
  m.chat_template = "{{ messages }}";
  m.generation_config = "{\"temperature\":0.5}";
  m.recipe = "{}";
  m.provenance = "{\"tool\":\"lapidary 0.1.0\"}";
  return m;
}

inline constexpr std::string_view kTokenizerText = "{\"model\": {\"type\": \"BPE\"}}";

inline LapTensor plain_tensor(std::string name, std::vector<int64_t> shape, Code code) {
  LapTensor t;
  t.name = std::move(name);
  t.shape = std::move(shape);
  t.code = code;
  return t;
}

inline LapTensor panel_tensor(std::string name, std::vector<int64_t> shape, Code code,
                              bool rotated = false) {
  LapTensor t = plain_tensor(std::move(name), std::move(shape), code);
  t.layout = Layout::kPanels;
  t.rotated = rotated;
  return t;
}

inline LapTensor table_tensor(std::string name, int64_t rows, int64_t layers, int64_t width,
                              Code code) {
  LapTensor t = plain_tensor(std::move(name), {rows, layers * width}, code);
  t.layout = Layout::kRowTable;
  t.record_width = width;
  return t;
}

// Random integers with small scales, so that every dequantized weight is finite. std::mt19937 gives
// the same numbers everywhere.
inline PanelIntegers small_panel(const PackedGeometry& g, ScaleType scale_type,
                                 std::mt19937& random) {
  PanelIntegers panel(g);
  const CodeTraits& t = traits(g.code);
  for (uint8_t& index : panel.indices) index = static_cast<uint8_t>(random() % (1u << t.bits));
  for (int8_t& m : panel.multipliers)
    m = static_cast<int8_t>(static_cast<int>(random() % (2 * t.max_multiplier + 1)) -
                            t.max_multiplier);
  for (uint16_t& scale : panel.scales)
    scale = float_to_scale(scale_type, static_cast<float>(random() % 256) / 4096);
  return panel;
}

// Stored bytes of a tensor with random finite weights.
inline std::vector<uint8_t> random_content(const LapTensor& t, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(stored_bytes(t));
  if (traits(t.code).is_float) {
    std::vector<float> values(static_cast<size_t>(t.elements()));
    for (float& v : values) v = static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 512;
    encode_floats(t.code, values, bytes);
    return bytes;
  }
  if (t.layout == Layout::kRowTable) {
    const RowTableGeometry g =
        row_table_geometry(t.code, t.shape[0], t.shape[1] / t.record_width, t.record_width);
    const CodeTraits& code = traits(t.code);
    for (int64_t at = 0; at < g.bytes; at += g.record_bytes) {
      RecordIntegers record;
      for (int64_t i = 0; i < g.width; ++i)
        record.indices.push_back(static_cast<uint8_t>(random() % (1u << code.bits)));
      for (int64_t i = 0; i < g.n_groups; ++i)
        record.multipliers.push_back(static_cast<int8_t>(
            code.max_multiplier > 0 ? 1 + static_cast<int>(random()) % code.max_multiplier : 1));
      for (int64_t i = 0; i < g.n_scales; ++i)
        record.scales.push_back(
            float_to_scale(t.scale_type, static_cast<float>(random() % 256) / 4096));
      pack_record(
          g, record,
          std::span(bytes).subspan(static_cast<size_t>(at), static_cast<size_t>(g.record_bytes)));
    }
    return bytes;
  }
  const size_t n = t.shape.size();
  const int64_t experts = n == 3 ? t.shape[0] : 1;
  const PackedGeometry g = packed_geometry(t.code, t.shape[n - 2], t.shape[n - 1]);
  const std::span<uint8_t> codes(bytes.data(), static_cast<size_t>(experts * g.code_bytes));
  const std::span<uint8_t> meta = std::span(bytes).subspan(codes.size());
  const size_t code_bytes = static_cast<size_t>(g.panel_code_bytes);
  const size_t meta_bytes = static_cast<size_t>(g.panel_meta_bytes);
  for (size_t p = 0; p < static_cast<size_t>(experts * g.n_panels); ++p)
    pack_panel(g, small_panel(g, t.scale_type, random), codes.subspan(p * code_bytes, code_bytes),
               meta.subspan(p * meta_bytes, meta_bytes));
  return bytes;
}

// One tensor of each layout and of both alignments; about 9 KB of data.
inline std::vector<LapTensor> small_tensors() {
  return {plain_tensor("model.norm.weight", {4}, Code::kF32),
          plain_tensor("model.embed_tokens.weight", {8, 4}, Code::kBF16),
          panel_tensor("model.layers.0.self_attn.q_proj.weight", {17, 96}, Code::kW4, true),
          panel_tensor("model.layers.0.experts.down_proj", {2, 16, 64}, Code::kW3),
          table_tensor("model.embed_tokens_per_layer.weight", 5, 2, 40, Code::kW5)};
}

inline std::string write_small_lap(const std::string& path, const std::vector<LapTensor>& tensors,
                                   const ModelMetadata& metadata = small_metadata(),
                                   const LapTokenizer& tokenizer = {}) {
  LapWriter writer(path, metadata, tokenizer, tensors);
  for (size_t i = 0; i < tensors.size(); ++i)
    writer.append(i, random_content(tensors[i], static_cast<uint32_t>(i)));
  return writer.commit();
}

}  // namespace lapidary
