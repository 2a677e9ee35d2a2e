// Checkpoints converted for tests, each once per test program, and what their fixtures hold.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/safetensors.h"
#include "quantize/quantize.h"
#include "runtime/engine.h"
#include "tests/test_data.h"

namespace lapidary {

// The folder of a checkpoint, bundled or outside the clone; empty when absent.
inline std::string checkpoint_folder(const std::string& name) {
  return name.starts_with("small-") ? shared_path("checkpoints/" + name) : data_path(name);
}

// The path of the checkpoint as .lap.
inline std::string converted_path(const std::string& name) {
  static TemporaryFolder folder;
  static std::map<std::string, std::string> done;
  std::string& path = done[name];
  if (path.empty()) {
    path = folder.file(name + ".lap");
    convert(*HfSource::open(checkpoint_folder(name)), path, {});
  }
  return path;
}

inline std::shared_ptr<const Model> converted_model(const std::string& name) {
  static std::map<std::string, std::shared_ptr<const Model>> done;
  std::shared_ptr<const Model>& model = done[name];
  if (!model) model = Model::load(converted_path(name));
  return model;
}

// The same with every matrix in `weights`; bf16 gives the master.
inline std::shared_ptr<const Model> quantized_model(const std::string& name, Code weights) {
  if (weights == Code::kBF16) return converted_model(name);
  static TemporaryFolder folder;
  static std::map<std::string, std::shared_ptr<const Model>> done;
  const std::string key = name + "." + std::string(code_name(weights));
  std::shared_ptr<const Model>& model = done[key];
  if (!model) {
    QuantizeOptions options;
    options.weights = weights;
    options.n_threads = 2;
    quantize(*HfSource::open(checkpoint_folder(name)), folder.file(key), options, {});
    model = Model::load(folder.file(key));
  }
  return model;
}

inline std::vector<int32_t> ints_of(const SafetensorsSet& set, const std::string& name) {
  const SafetensorsEntry* entry = set.find(name);
  if (!entry) throw std::runtime_error("fixture without " + name);
  return set.read_ints(*entry);
}
inline std::vector<float> floats_of(const SafetensorsSet& set, const std::string& name) {
  const SafetensorsEntry* entry = set.find(name);
  if (!entry) throw std::runtime_error("fixture without " + name);
  return set.read_floats(*entry);
}

// All logits of `ids` on a fresh sequence, chunk by chunk; chunk 0: as large as the engine takes.
inline std::vector<float> logits_of(Engine& engine, std::span<const int32_t> ids,
                                    const KvOptions& kv, size_t chunk = 0,
                                    const Adapter* adapter = nullptr) {
  if (chunk == 0) chunk = static_cast<size_t>(engine.options().max_batch_tokens);
  const auto sequence = engine.new_sequence(static_cast<int64_t>(ids.size()), kv);
  std::vector<float> all;
  for (size_t done = 0; done < ids.size(); done += chunk) {
    const BatchItem item{sequence.get(), ids.subspan(done, std::min(chunk, ids.size() - done)), 0,
                         adapter};
    const std::span<const float> logits = engine.step({&item, 1});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

}  // namespace lapidary
