// Layers of one kind, shape and code are one line of the table.
#include "tools/cli/kv_table.h"

#include <nlohmann/json.hpp>

#include "convert/hf_source.h"
#include "formats/error.h"
#include "formats/file.h"
#include "formats/lap.h"
#include "runtime/engine.h"
#include "runtime/kv_plan.h"

namespace lapidary {
namespace {

// Layers alike in everything that decides about bytes.
struct Kind {
  KvLayerPlan layer;
  int n_layers = 0;
};

struct Table {
  std::vector<Kind> kinds;
  int n_sharing = 0;  // layers that read another layer's K and V
  uint64_t reserved_bytes = 0, bytes = 0, plain_bytes = 0;
  double bytes_per_token = 0, plain_bytes_per_token = 0;
};

double plain_growth(const KvLayerPlan& layer) {
  return layer.sliding ? 0 : static_cast<double>(layer.plain_row_bytes);
}

Table make_table(const ModelConfig& config, const KvOptions& options, int64_t context) {
  const KvPlan plan = plan_kv(config, options, context, EngineOptions().max_batch_tokens);
  Table table;
  table.reserved_bytes = plan.reserved_bytes;
  table.n_sharing = config.n_layers() - static_cast<int>(plan.layers.size());
  for (const KvLayerPlan& layer : plan.layers) {
    table.bytes += layer.held_bytes(context);
    table.plain_bytes += layer.plain_bytes(context);
    table.bytes_per_token += layer.bytes_per_token();
    table.plain_bytes_per_token += plain_growth(layer);
    const auto alike = [&](const Kind& k) {
      return k.layer.sliding == layer.sliding && k.layer.window == layer.window &&
             k.layer.code == layer.code && k.layer.n_kv_heads == layer.n_kv_heads &&
             k.layer.head_dim == layer.head_dim;
    };
    const auto found = std::find_if(table.kinds.begin(), table.kinds.end(), alike);
    if (found == table.kinds.end())
      table.kinds.push_back({layer, 1});
    else
      ++found->n_layers;
  }
  return table;
}

std::string binary_bytes(double bytes) {
  constexpr double kKi = 1024;
  if (bytes < kKi) return fmt::format("{:.0f} B", bytes);
  if (bytes < kKi * kKi) return fmt::format("{:.1f} KiB", bytes / kKi);
  if (bytes < kKi * kKi * kKi) return fmt::format("{:.1f} MiB", bytes / kKi / kKi);
  return fmt::format("{:.2f} GiB", bytes / kKi / kKi / kKi);
}

std::string row(const std::string& name, const std::string& shape, double plain_growth,
                double growth, uint64_t plain_bytes, uint64_t bytes) {
  const auto per_token = [](double b) { return b == 0 ? "-" : fmt::format("{:.0f} B", b); };
  return fmt::format("{:26} {:>16} {:>11} {:>11} {:>11} {:>11} {:>6.1f} %\n", name, shape,
                     per_token(plain_growth), per_token(growth),
                     binary_bytes(static_cast<double>(plain_bytes)),
                     binary_bytes(static_cast<double>(bytes)),
                     100 * static_cast<double>(bytes) / static_cast<double>(plain_bytes));
}

}  // namespace

ModelMetadata read_description(const std::string& path) {
  if (!path_exists(path)) fail(ErrorCode::kNotFound, "'{}': no such file or folder", path);
  if (!is_folder(path) && !path.ends_with(".json")) return LapReader::open(path)->metadata();
  const std::string file = is_folder(path) ? path + "/config.json" : path;
  ModelMetadata metadata;
  metadata.config =
      with_context("'" + file + "'", [&] { return model_config_from_hf(read_text(file)); });
  return metadata;
}

std::string kv_table_json(const ModelConfig& config, const KvOptions& options, int64_t context) {
  const Table table = make_table(config, options, context);
  nlohmann::ordered_json json{{"context", context}, {"kv", describe(options)}};
  json["layers"] = nlohmann::ordered_json::array();
  for (const Kind& kind : table.kinds) {
    const KvLayerPlan& layer = kind.layer;
    const uint64_t n = static_cast<uint64_t>(kind.n_layers);
    json["layers"].push_back({{"kind", layer.sliding ? "sliding" : "global"},
                              {"code", kv_name(layer.code)},
                              {"layers", kind.n_layers},
                              {"kv_heads", layer.n_kv_heads},
                              {"head_dim", layer.head_dim},
                              {"window", layer.window},
                              {"bytes_per_token_16bit", plain_growth(layer) * kind.n_layers},
                              {"bytes_per_token", layer.bytes_per_token() * kind.n_layers},
                              {"bytes_16bit", n * layer.plain_bytes(context)},
                              {"bytes", n * layer.held_bytes(context)}});
  }
  json["layers_sharing"] = table.n_sharing;
  json["bytes_per_token_16bit"] = table.plain_bytes_per_token;
  json["bytes_per_token"] = table.bytes_per_token;
  json["bytes_16bit"] = table.plain_bytes;
  json["bytes"] = table.bytes;
  json["reserved_bytes"] = table.reserved_bytes;
  return json.dump();
}

std::string kv_table_text(const ModelConfig& config, const KvOptions& options, int64_t context) {
  const Table table = make_table(config, options, context);
  std::string text =
      fmt::format("KV cache of one sequence of {} tokens, {}\n\n", context, describe(options));
  text +=
      fmt::format("{:26} {:>16} {:>23} {:>23}\n{:26} {:>16} {:>11} {:>11} {:>11} {:>11} {:>8}\n",
                  "", "", "bytes per token", "at this context", "layers", "heads x dim", "16 bits",
                  "code", "16 bits", "code", "share");
  for (const Kind& kind : table.kinds) {
    const KvLayerPlan& layer = kind.layer;
    const uint64_t n = static_cast<uint64_t>(kind.n_layers);
    const std::string window = layer.sliding ? fmt::format(" {}", layer.window) : "";
    text += row(fmt::format("{} {}{}, {}", kind.n_layers, layer.sliding ? "sliding" : "global",
                            window, kv_name(layer.code)),
                fmt::format("{} x {}", layer.n_kv_heads, layer.head_dim),
                plain_growth(layer) * kind.n_layers, layer.bytes_per_token() * kind.n_layers,
                n * layer.plain_bytes(context), n * layer.held_bytes(context));
  }
  if (table.n_sharing > 0)
    text += fmt::format("{} sharing the K and V of another\n", table.n_sharing);
  text += row("total", "", table.plain_bytes_per_token, table.bytes_per_token, table.plain_bytes,
              table.bytes);
  return text + fmt::format("\nreserved with room for steps of {} tokens: {}",
                            EngineOptions().max_batch_tokens,
                            binary_bytes(static_cast<double>(table.reserved_bytes)));
}

}  // namespace lapidary
