// What a supported family is: a reading of config.json, and the tensors such a model must have.
//
// One .cpp file per family (gemma4, its assistants, gemma3, llama3, qwen3), written to be read side
// by side. A
// family is a pair of functions, not a class: after convert, only the ModelConfig knows what the
// model was.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/config_reader.h"
#include "formats/model_config.h"

namespace lapidary {

// The tensors of a model under their canonical names.
struct ExpectedTensors {
  std::map<std::string, std::vector<int64_t>> shapes;  // all of these must be there
  // May be there and are left out: name -> the group that the report counts it under.
  std::map<std::string, std::string> unused;
  std::set<std::string> integers;  // of `shapes`: whole numbers, kept as float32

  void add(std::string name, std::vector<int64_t> shape) {
    shapes.emplace(std::move(name), std::move(shape));
  }
};

struct Family {
  std::string_view name;  // ModelConfig::family
  std::vector<std::string_view> model_types;
  ModelConfig (*read_config)(const ConfigReader& text);
  ExpectedTensors (*expected_tensors)(const ModelConfig& config);
};

const Family& gemma4_family();
const Family& gemma4_assistant_family();
const Family& gemma3_family();
const Family& llama3_family();
const Family& qwen3_family();

// The family of a config's model_type. Throws kBadData listing what is supported.
const Family& find_family(std::string_view model_type);

// config.json of any supported family, composite layouts included, to a validated description.
// `where` names the file in messages. Throws kBadData.
struct HfConfig {
  ModelConfig config;
  const Family* family;
};
HfConfig read_hf_config(std::string_view json, const std::string& where);

// Keys without influence on the arithmetic, reviewed one by one; see ignored_keys.cpp.
std::span<const std::string_view> ignored_keys();

// --- parts that several families share ---

// Gemma 4's text model, and the small one inside an assistant.
ModelConfig read_gemma4_text(const ConfigReader& text, const AssistantConfig& assistant);
ExpectedTensors gemma4_tensors(const ModelConfig& config);

// Token ids, context length, the head: the same keys everywhere.
void read_common(const ConfigReader& text, bool tied_by_default, ModelConfig* config);
int read_n_layers(const ConfigReader& text);  // 1 to 1023
// Keys that would change the arithmetic in every family.
void refuse_common(const ConfigReader& text);
// One rope dictionary (an entry of rope_parameters, or rope_scaling). Knows default, linear,
// proportional and llama3; anything else is an Error. `theta` holds where the dictionary has none.
RopeConfig read_rope(const ConfigReader& rope, double theta);
// Llama and Qwen: rope_parameters (transformers 5), or rope_theta with rope_scaling (older).
RopeConfig read_single_rope(const ConfigReader& text);
// true where layer i is global. From layer_types; absent: every `pattern`-th layer is.
std::vector<bool> read_global_layers(const ConfigReader& text, int n_layers, int pattern);

// "model.layers.3." and the projections and norms that every family has.
std::string layer_prefix(int layer);
void add_attention(const ModelConfig& config, int layer, ExpectedTensors* tensors);
void add_mlp(const ModelConfig& config, int layer, ExpectedTensors* tensors);
// Embedding, final norm, and the head where it is not tied.
void add_ends(const ModelConfig& config, ExpectedTensors* tensors);

}  // namespace lapidary
