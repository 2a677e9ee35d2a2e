// The PEFT folder: tensor keys to canonical module names and back, with every shape checked.
//
// Keys as peft 0.21 writes them: "base_model.model." + module + ".lora_A.weight" [r, in],
// ".lora_B.weight" [out, r], ".lora_magnitude_vector" [out]. Raw state dicts of training scripts
// have ".default" (the adapter's name) inside; both are read, the first is written.
//
// Experts are parameters, not modules: PEFT wraps their module once per adapted parameter, so that
// "experts.base_layer" is gate_up_proj and "experts" is down_proj, or the only one there is. A is
// [n_experts r, in] with one expert's rows together, B [out, r n_experts] with one rank's columns
// together. DoRA on experts is ours alone (PEFT refuses it): [n_experts out], an expert's rows
// together.
#include "formats/peft.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/json_guard.h"
#include "formats/peft_config.h"
#include "formats/safetensors.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxJsonBytes = 16 << 20;
constexpr std::string_view kWrapper = "base_model.model.";
// Longest first: the second is how wrappers of transformers 4 spelled it.
constexpr std::array<std::string_view, 3> kBasePrefixes = {"model.language_model.",
                                                           "language_model.model.", "model."};

enum class Part { kA, kB, kMagnitude };

struct KeyEnding {
  std::string_view text;
  Part part;
};
constexpr std::array<KeyEnding, 8> kEndings{
    {{".lora_A.weight", Part::kA},
     {".lora_A.default.weight", Part::kA},
     {".lora_B.weight", Part::kB},
     {".lora_B.default.weight", Part::kB},
     {".lora_magnitude_vector", Part::kMagnitude},
     {".lora_magnitude_vector.weight", Part::kMagnitude},
     {".lora_magnitude_vector.default", Part::kMagnitude},
     {".lora_magnitude_vector.default.weight", Part::kMagnitude}}};

struct Key {
  std::string module;       // canonical
  std::string base_module;  // as the base names it
  std::string_view prefix;  // one of kBasePrefixes, or empty
  Part part;
};

// What the wrappers around "...experts" hold.
std::string unwrap_experts(const std::string& module, const PeftConfig& config) {
  const std::string_view experts = ".experts", inner = ".experts.base_layer";
  const bool both = config.target_parameters.size() > 1;
  if (both && module.ends_with(inner))
    return module.substr(0, module.size() - inner.size() + 1) + kExpertsGateUp;
  if (!module.ends_with(experts) || config.target_parameters.empty()) return module;
  return module.substr(0, module.size() - experts.size() + 1) +
         (both ? kExpertsDown : config.target_parameters[0]);
}

Key parse_key(std::string_view key, const PeftConfig& config, const std::string& where) {
  const auto ending = std::find_if(kEndings.begin(), kEndings.end(),
                                   [&](const KeyEnding& e) { return key.ends_with(e.text); });
  if (ending == kEndings.end())
    fail(ErrorCode::kBadData,
         "{}: tensor \"{}\" is no lora_A, lora_B or lora_magnitude_vector of a linear layer; only "
         "those are supported",
         where, excerpt(key));
  std::string_view module = key.substr(0, key.size() - ending->text.size());
  if (module.starts_with(kWrapper)) module.remove_prefix(kWrapper.size());
  const std::string unwrapped = unwrap_experts(std::string(module), config);
  module = unwrapped;
  Key out{std::string(module), std::string(module), "", ending->part};
  for (const std::string_view prefix : kBasePrefixes)
    if (module.starts_with(prefix)) {
      out.prefix = prefix;
      out.module = "model." + std::string(module.substr(prefix.size()));
      break;
    }
  return out;
}

// One module on the way in: its parts as they are found.
struct Parts {
  const SafetensorsEntry* a = nullptr;
  const SafetensorsEntry* b = nullptr;
  const SafetensorsEntry* magnitude = nullptr;
  std::string base_module;
};

std::string shape_text(const SafetensorsEntry& entry) {
  return fmt::format("[{}]", fmt::join(entry.shape, ", "));
}

std::vector<float> read_finite(const SafetensorsSet& file, const SafetensorsEntry& entry,
                               const std::string& where) {
  if (entry.dtype != DType::kF32 && entry.dtype != DType::kBF16 && entry.dtype != DType::kF16 &&
      entry.dtype != DType::kF64)
    fail(ErrorCode::kBadData, "{}: tensor \"{}\" is {}, expected a float type", where, entry.name,
         dtype_name(entry.dtype));
  std::vector<float> values = file.read_floats(entry);
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }))
    fail(ErrorCode::kBadData,
         "{}: tensor \"{}\" holds NaN or infinity; the training diverged, take an earlier "
         "checkpoint",
         where, entry.name);
  return values;
}

// B of a stack from the file's [out, rank, n_experts] to [n_experts, out, rank], and back.
std::vector<float> by_expert(const std::vector<float>& b, const LoraModule& m) {
  std::vector<float> out(b.size());
  size_t next = 0;
  for (int64_t e = 0; e < m.n_experts; ++e)
    for (int64_t row = 0; row < m.out * m.rank; ++row)
      out[next++] = b[static_cast<size_t>(row * m.n_experts + e)];
  return out;
}
std::vector<float> by_rank(const std::vector<float>& b, const LoraModule& m) {
  std::vector<float> out(b.size());
  size_t next = 0;
  for (int64_t e = 0; e < m.n_experts; ++e)
    for (int64_t row = 0; row < m.out * m.rank; ++row)
      out[static_cast<size_t>(row * m.n_experts + e)] = b[next++];
  return out;
}

LoraModule read_module(const SafetensorsSet& file, const std::string& name, const Parts& parts,
                       const PeftConfig& config, const LoraScales& scales,
                       const std::string& where) {
  const auto bad = [&](const std::string& what) {
    fail(ErrorCode::kBadData, "{}: module {}: {}", where, excerpt(name), what);
  };
  if (!parts.a || !parts.b) bad(parts.a ? "lora_B is missing" : "lora_A is missing");
  const auto positive = [](int64_t n) { return n > 0; };
  for (const SafetensorsEntry* e : {parts.a, parts.b})
    if (e->shape.size() != 2 || !std::all_of(e->shape.begin(), e->shape.end(), positive))
      bad(fmt::format("\"{}\" has shape {}, expected a matrix", e->name, shape_text(*e)));
  LoraModule m;
  m.module = name;
  m.rank = scales.rank(parts.base_module);
  m.scale = scales.scale(parts.base_module);
  m.in = parts.a->shape[1];
  m.out = parts.b->shape[0];
  if (is_expert_stack(name, kExpertsGateUp) || is_expert_stack(name, kExpertsDown))
    m.n_experts = std::max<int64_t>(1, parts.a->shape[0] / m.rank);
  const int64_t ranks = m.rank * m.n_matrices();
  if (parts.a->shape[0] != ranks || parts.b->shape[1] != ranks)
    bad(fmt::format("lora_A is {} and lora_B is {}, expected rank {} by adapter_config.json",
                    shape_text(*parts.a), shape_text(*parts.b), m.rank));
  if (config.dora != (parts.magnitude != nullptr))
    bad(config.dora ? "lora_magnitude_vector is missing, but use_dora is true"
                    : "has a lora_magnitude_vector, but use_dora is false");
  m.a = read_finite(file, *parts.a, where);
  m.b = read_finite(file, *parts.b, where);
  if (m.n_experts > 0) m.b = by_expert(m.b, m);
  if (parts.magnitude) {
    if (parts.magnitude->elements() != m.n_matrices() * m.out)
      bad(fmt::format("lora_magnitude_vector has shape {}, expected [{}]",
                      shape_text(*parts.magnitude), m.n_matrices() * m.out));
    m.magnitude = read_finite(file, *parts.magnitude, where);
  }
  return m;
}

// Our own file beside PEFT's two; adapters from elsewhere have none.
void read_base_hashes(const std::string& path, PeftAdapter& adapter) {
  if (!path_exists(path)) return;
  const std::string text = read_text(path, kMaxJsonBytes);
  guard_json(text, path, 16);
  const Json json = Json::parse(text);
  if (!json.is_object()) fail(ErrorCode::kBadData, "{}: is not a JSON object", path);
  const auto hash = [&](const char* key) {
    const auto it = json.find(key);
    if (it == json.end() || it->is_null()) return std::string();
    if (!it->is_string())
      fail(ErrorCode::kBadData, "{}: {} is {}, expected a string of hexadecimal digits", path, key,
           excerpt(it->dump()));
    return it->get<std::string>();
  };
  adapter.base_hash = hash("base_hash");
  adapter.base_source_hash = hash("base_source_hash");
}

SafetensorsSet open_weights(const std::string& folder) {
  const std::string path = folder + "/adapter_model.safetensors";
  if (!path_exists(path) && path_exists(folder + "/adapter_model.bin"))
    fail(ErrorCode::kNotFound,
         "{}: not there; adapter_model.bin is a Python pickle, which is not read: save the adapter "
         "with safe_serialization=True",
         path);
  return SafetensorsSet::open_file(path);
}

// The tensors' name for a module: that of PEFT's wrapper.
std::string wrapped(std::string base_module, const PeftConfig& config) {
  for (const char* stack : {kExpertsGateUp, kExpertsDown}) {
    if (!is_expert_stack(base_module, stack)) continue;
    base_module.resize(base_module.size() - std::string_view(stack).size());
    const bool inner = stack == kExpertsGateUp && config.target_parameters.size() > 1;
    return base_module + (inner ? "experts.base_layer" : "experts");
  }
  return base_module;
}

}  // namespace

bool is_expert_stack(std::string_view module, std::string_view stack) {
  return module == stack || (module.ends_with(stack) && module.size() > stack.size() &&
                             module[module.size() - stack.size() - 1] == '.');
}

PeftAdapter read_peft(const std::string& folder) {
  const std::string config_path = folder + "/adapter_config.json";
  if (!path_exists(config_path))
    fail(ErrorCode::kNotFound, "{}: no adapter_config.json there; name a PEFT adapter's folder",
         folder);
  PeftAdapter adapter;
  adapter.config = parse_peft_config(read_text(config_path, kMaxJsonBytes), config_path);
  const SafetensorsSet file = open_weights(folder);
  const std::string where = folder + "/adapter_model.safetensors";

  std::map<std::string, Parts> modules;
  std::optional<std::string_view> prefix;
  for (const SafetensorsEntry& entry : file.entries()) {
    const Key key = parse_key(entry.name, adapter.config, where);
    Parts& parts = modules[key.module];
    const SafetensorsEntry*& part = key.part == Part::kA   ? parts.a
                                    : key.part == Part::kB ? parts.b
                                                           : parts.magnitude;
    if (part)
      fail(ErrorCode::kBadData, "{}: tensors \"{}\" and \"{}\" are the same part of one module",
           where, part->name, entry.name);
    part = &entry;
    parts.base_module = key.base_module;
    if (!key.prefix.empty() && !prefix) prefix = key.prefix;
  }
  if (modules.empty()) fail(ErrorCode::kBadData, "{}: holds no tensors", where);
  if (prefix) adapter.config.base_prefix = *prefix;

  const LoraScales scales(adapter.config);
  for (const auto& [name, parts] : modules)
    adapter.modules.push_back(read_module(file, name, parts, adapter.config, scales, where));
  read_base_hashes(folder + "/lapidary.json", adapter);
  return adapter;
}

void write_peft(const std::string& folder, const PeftAdapter& adapter) {
  const LoraScales scales(adapter.config);
  std::vector<SafetensorsOutput> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape,
                       const std::vector<float>& values) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
    tensors.push_back({name, DType::kF32, std::move(shape), {bytes, values.size() * 4}});
  };
  std::vector<std::vector<float>> stacked;  // B of stacks as the file has it
  stacked.reserve(adapter.modules.size());
  for (const LoraModule& m : adapter.modules) {
    std::string base_module = m.module;
    if (base_module.starts_with("model."))
      base_module = adapter.config.base_prefix + base_module.substr(6);
    // The file holds no scales: readers take them from the config, so the two must agree (up to the
    // rounding of alpha / r in floats).
    const float scale = scales.scale(base_module);
    if (m.rank != scales.rank(base_module) || std::abs(m.scale - scale) > 1e-6f * std::abs(scale))
      fail(ErrorCode::kBadData,
           "adapter module {}: rank {} and scale {} differ from the config's {} and {}", m.module,
           m.rank, m.scale, scales.rank(base_module), scale);
    const int64_t ranks = m.rank * m.n_matrices();
    LAPIDARY_CHECK(static_cast<int64_t>(m.a.size()) == ranks * m.in);
    LAPIDARY_CHECK(static_cast<int64_t>(m.b.size()) == m.out * ranks);
    LAPIDARY_CHECK(adapter.config.dora == !m.magnitude.empty());
    const std::string key = std::string(kWrapper) + wrapped(base_module, adapter.config);
    if (m.n_experts > 0) stacked.push_back(by_rank(m.b, m));
    add(key + ".lora_A.weight", {ranks, m.in}, m.a);
    add(key + ".lora_B.weight", {m.out, ranks}, m.n_experts > 0 ? stacked.back() : m.b);
    if (adapter.config.dora)
      add(key + ".lora_magnitude_vector", {m.n_matrices() * m.out}, m.magnitude);
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  write_safetensors(folder + "/adapter_model.safetensors", tensors);
  write_text_atomically(folder + "/adapter_config.json", peft_config_json(adapter.config));
  const Json identity{{"base_hash", adapter.base_hash},
                      {"base_source_hash", adapter.base_source_hash}};
  write_text_atomically(folder + "/lapidary.json", identity.dump(2) + "\n");
}

}  // namespace lapidary
