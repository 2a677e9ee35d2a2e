// The sizes of calibrator.h's stages; the largest one decides.
#include "quantize/memory_plan.h"

#include <algorithm>
#include <map>

#include "formats/error.h"
#include "quantize/hidden_states.h"
#include "quantize/round_tensor.h"
#include "quantize/tensor_plan.h"

namespace lapidary {
namespace {

constexpr uint64_t kFloat = sizeof(float);
constexpr uint64_t kSmallThings = uint64_t{64} << 20;

uint64_t u(int64_t n) { return static_cast<uint64_t>(n); }
int64_t padded(int64_t k) { return (k + kTileK - 1) / kTileK * kTileK; }

// One layer, or the head: what is in memory together while its matrices are rounded.
struct Stage {
  std::string name;
  uint64_t weights = 0;                    // as floats
  uint64_t largest = 0;                    // stored bytes of its largest tensor
  int64_t widest = 0;                      // padded inputs
  std::map<std::string, uint64_t> inputs;  // Hessians by input: bytes
  uint64_t hessians() const {
    uint64_t sum = 0;
    for (const auto& [input, bytes] : inputs) sum += bytes;
    return sum;
  }
  // Strips under way, the copies their energy is taken from, columns of L, an output and its copy.
  uint64_t rounding() const {
    const uint64_t strips = std::max(kStripFloats * kFloat, u(widest) * kStripRows * kFloat);
    return (widest > 2048 ? strips + strips / 8 : 2 * strips) + u(widest) * kBatchK * kFloat +
           2 * largest;
  }
  uint64_t bytes() const { return weights + hessians() + rounding(); }
};

// The matrices that share an input share a Hessian.
std::string input_of(const std::string& name) {
  for (const char* shared : {"q_proj", "k_proj", "v_proj"})
    if (name.find(shared) != std::string::npos) return "attention";
  for (const char* shared : {"gate_proj", "up_proj"})
    if (name.find("experts") == std::string::npos && name.find(shared) != std::string::npos)
      return "mlp";
  return name;
}

void add_tensor(const SourceTensor& tensor, const LapTensor& entry, Stage* stage) {
  if (entry.shape.size() < 2) return;
  const int source_bits = traits(tensor.code).is_float ? traits(tensor.code).bits : 32;
  stage->weights += u(tensor.elements()) * u(source_bits) / 8;
  if (entry.layout != Layout::kPanels || !takes_feedback(entry.code)) return;
  const int64_t n = padded(entry.shape.back());
  const bool own_inputs = entry.name.ends_with("experts.down_proj");
  const uint64_t count = own_inputs ? u(entry.shape[0]) + 1 : 1;  // and the layer's sum of them
  stage->inputs[input_of(entry.name)] = count * u(n) * u(n) * kFloat;
  stage->largest = std::max(stage->largest, entry.bytes);
  stage->widest = std::max(stage->widest, n);
}

// Buffers of the forward pass for one window, in floats of the widest layer.
uint64_t workspace_bytes(const ModelConfig& config, int context) {
  int64_t q = 0, kv = 0, d_ff = 0, experts = 0;
  for (const LayerConfig& layer : config.layers) {
    q = std::max<int64_t>(q, int64_t{layer.n_heads} * layer.head_dim);
    kv = std::max<int64_t>(kv, int64_t{layer.n_kv_heads} * layer.head_dim);
    d_ff = std::max<int64_t>(d_ff, layer.d_ff);
    experts = std::max<int64_t>(experts, int64_t{layer.n_experts_used} *
                                             (3 * int64_t{config.d_model} + 2 * layer.d_expert));
  }
  const int64_t widest = std::max<int64_t>({q, d_ff, config.d_model});
  const int64_t ple = 2 * int64_t{config.n_layers()} * config.ple_width;
  return u(context) *
             u(4 * int64_t{config.d_model} + 2 * q + 4 * kv + 2 * d_ff + 2 * widest + experts +
               ple) *
             kFloat +
         u(config.vocab_size) * kFloat;
}

}  // namespace

MemoryPlan plan_calibration_memory(const ModelSource& source, const std::vector<LapTensor>& entries,
                                   const CalibrationOptions& options, int64_t n_tokens) {
  const ModelConfig& config = source.metadata().config;
  const int64_t d_model = config.d_model;
  std::vector<Stage> stages(config.layers.size() + 1);
  for (size_t l = 0; l < config.layers.size(); ++l) stages[l].name = fmt::format("layer {}", l);
  stages.back().name = "the head";
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::string& name = entries[i].name;
    constexpr std::string_view kPrefix = "model.layers.";
    if (name.starts_with(kPrefix)) {
      const size_t l = std::stoul(name.substr(kPrefix.size()));
      if (l < config.layers.size()) add_tensor(source.tensors()[i], entries[i], &stages[l]);
    } else if (name == head_name(config)) {
      add_tensor(source.tensors()[i], entries[i], &stages.back());
    }
  }
  const Stage& peak =
      *std::max_element(stages.begin(), stages.end(),
                        [](const Stage& a, const Stage& b) { return a.bytes() < b.bytes(); });

  MemoryPlan plan;
  const auto add = [&](const std::string& what, uint64_t bytes) {
    if (bytes == 0) return;
    plan.parts.push_back({what, bytes});
    plan.bytes += bytes;
  };
  add(fmt::format("hidden states: {} tokens x {} x 4 bytes", n_tokens, d_model),
      u(n_tokens) * u(d_model) * kFloat);
  if (config.ple_width > 0) {
    add(fmt::format("embeddings for the per-layer inputs: {} tokens x {} x 4 bytes", n_tokens,
                    d_model),
        u(n_tokens) * u(d_model) * kFloat);
    const int64_t rows = std::min<int64_t>(n_tokens, config.vocab_size);
    const int64_t width = int64_t{config.n_layers()} * config.ple_width;
    add(fmt::format("rows of per-layer embeddings: at most {} tokens x {} x 4 bytes", rows, width),
        u(rows) * u(width) * kFloat);
  }
  uint64_t shared = 0;
  for (int l = 0; l < config.n_layers(); ++l) {
    bool is_shared = false;
    for (int later = l + 1; later < config.n_layers(); ++later)
      is_shared = is_shared || config.layers[static_cast<size_t>(later)].kv_source == l;
    const LayerConfig& shape = config.layers[static_cast<size_t>(l)];
    if (is_shared) shared += u(2 * n_tokens * shape.n_kv_heads * shape.head_dim) * kFloat;
  }
  add("K and V that later layers share", shared);
  add(fmt::format("forward pass of a window of {} tokens", options.context),
      workspace_bytes(config, options.context));
  add(fmt::format("weights of {}", peak.name), peak.weights);
  add(fmt::format("its {} kinds of input: sums of n x n x 4 bytes, the widest n {}",
                  peak.inputs.size(), peak.widest),
      peak.hessians());
  add("rounding: rows under way, columns of feedback, one tensor's output", peak.rounding());
  add("code, tables and small buffers", kSmallThings);
  return plan;
}

void require_memory(const MemoryPlan& plan, uint64_t limit) {
  if (plan.bytes <= limit) return;
  const MemoryPart& largest =
      *std::max_element(plan.parts.begin(), plan.parts.end(),
                        [](const MemoryPart& a, const MemoryPart& b) { return a.bytes < b.bytes; });
  fail(ErrorCode::kOutOfMemory,
       "calibration needs {:.2f} GB and --memory allows {:.2f} GB; the largest part is {} ({:.2f} "
       "GB). Allow more, or lower --calibrate-tokens; --dry-run shows all parts",
       static_cast<double>(plan.bytes) / 1e9, static_cast<double>(limit) / 1e9, largest.what,
       static_cast<double>(largest.bytes) / 1e9);
}

}  // namespace lapidary
