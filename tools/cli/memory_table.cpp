// From a file's index or a shape's tensors to a table.
#include "tools/cli/memory_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "convert/synthetic.h"
#include "finetune/memory_plan.h"
#include "formats/lap.h"
#include "formats/packed_matrix.h"
#include "kernels/thread_pool.h"
#include "tools/cli/progress.h"

namespace lapidary {
namespace {

struct Base {
  ModelConfig config;
  int64_t bytes = 0;
  std::string described;
};

Base base_of_shape(const std::string& shape) {
  const auto source = synthetic_source({.shape = shape});
  Base base{source->metadata().config, 0, shape + " in w4"};
  for (const SourceTensor& t : source->tensors()) {
    if (t.name.find("embed_tokens_per_layer") != std::string::npos) continue;
    const bool matrix = t.shape.size() > 1 && t.k() >= kTileK;
    if (!matrix) {
      base.bytes += t.elements() * 4;
      continue;
    }
    const int64_t experts = t.shape.size() == 3 ? t.shape[0] : 1;
    const PackedGeometry g = packed_geometry(Code::kW4, t.rows() / experts, t.k());
    base.bytes += experts * (g.code_bytes + g.meta_bytes);
  }
  return base;
}

Base base_of(const std::string& model) {
  const std::vector<std::string> shapes = synthetic_shapes();
  if (std::find(shapes.begin(), shapes.end(), model) != shapes.end()) return base_of_shape(model);
  const auto file = LapReader::open(model);
  Base base{file->metadata().config, 0, file->describe()};
  for (const LapTensor& t : file->index())
    if (t.layout != Layout::kRowTable) base.bytes += static_cast<int64_t>(t.bytes);
  return base;
}

}  // namespace

void print_memory_plan(const FinetuneOptions& options, bool json) {
  const Base base = base_of(options.model);
  MemoryPlanOptions o;
  o.peft.rank = options.rank;
  o.peft.alpha = options.alpha;
  o.peft.rslora = options.rslora;
  o.peft.dora = options.dora;
  o.peft.target_modules = options.targets;
  if (o.peft.target_modules.empty())
    o.peft.target_modules = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                             "gate_proj", "up_proj", "down_proj"};
  o.rank_for = options.rank_for;
  o.tokens = options.context;
  o.checkpoint_activations = options.checkpoint_activations;
  o.kept_bytes = options.kept_bytes;
  o.adam_8bit = options.adam_8bit;
  o.bfloat16 = options.precision != "f32";
  o.n_threads = options.n_threads > 0 ? options.n_threads : available_cores();
  const MemoryPlan plan = plan_memory(base.config, base.bytes, o);
  if (json) {
    nlohmann::ordered_json parts;
    for (const MemoryPart& p : plan.parts) parts[p.name] = p.bytes;
    fmt::print("{}\n", nlohmann::ordered_json{{"trained_parameters", plan.trained_parameters},
                                              {"total_bytes", plan.total()},
                                              {"parts", parts}}
                           .dump());
    return;
  }
  fmt::print("{}: rows of {} tokens, {} trained parameters\n", base.described, o.tokens,
             plan.trained_parameters);
  for (const MemoryPart& p : plan.parts)
    fmt::print("  {:<26} {:>10}\n", p.name, format_bytes(static_cast<double>(p.bytes)));
  fmt::print("  {:<26} {:>10}\n", "together", format_bytes(static_cast<double>(plan.total())));
}

}  // namespace lapidary
