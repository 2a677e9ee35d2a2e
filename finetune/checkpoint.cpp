// state.safetensors holds numbers, state.json the rest.
#include "finetune/checkpoint.h"

#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/json_guard.h"
#include "formats/safetensors.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

void check_identity(const std::map<std::string, std::string>& found,
                    const std::map<std::string, std::string>& expected, const std::string& folder) {
  for (const auto& [name, value] : expected) {
    const auto it = found.find(name);
    if (it == found.end())
      fail(ErrorCode::kBadData, "{}: the checkpoint does not say its {}", folder, name);
    if (it->second != value)
      fail(ErrorCode::kUsage,
           "{}: the interrupted run had {} {}, this one has {}; give the same options and data, or "
           "start anew with --overwrite",
           folder, name, it->second, value);
  }
}

}  // namespace

void write_checkpoint(const std::string& folder, const Checkpoint& checkpoint) {
  AtomicFolder output(folder, /*overwrite=*/true);
  std::vector<SafetensorsOutput> tensors;
  Json names = Json::array();
  for (const NamedFloats& t : checkpoint.trainer.tensors) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(t.values.data());
    tensors.push_back({t.name, DType::kF32, t.shape, {bytes, t.values.size() * sizeof(float)}});
    names.push_back(t.name);
  }
  write_safetensors(output.temporary() + "/state.safetensors", tensors);
  const Json state{{"steps_done", checkpoint.trainer.steps_done},
                   {"identity", checkpoint.identity},
                   {"tensors", names},
                   {"losses", checkpoint.losses},
                   {"log", checkpoint.log}};
  write_text_atomically(output.temporary() + "/state.json", state.dump(1) + "\n");
  output.commit();
}

Checkpoint read_checkpoint(const std::string& folder,
                           const std::map<std::string, std::string>& identity) {
  const std::string path = folder + "/state.json";
  if (!path_exists(path))
    fail(ErrorCode::kNotFound, "{}: no checkpoint there; start the run without --resume", folder);
  const std::string text = read_text(path);
  guard_json(text, path);
  Checkpoint checkpoint;
  std::vector<std::string> names;
  try {
    const Json state = Json::parse(text);
    checkpoint.identity = state.at("identity").get<std::map<std::string, std::string>>();
    checkpoint.trainer.steps_done = state.at("steps_done").get<int64_t>();
    checkpoint.losses = state.at("losses").get<std::vector<double>>();
    checkpoint.log = state.at("log").get<std::string>();
    names = state.at("tensors").get<std::vector<std::string>>();
  } catch (const Json::exception& e) {
    fail(ErrorCode::kBadData, "{}: not a checkpoint of this program: {}", path, e.what());
  }
  if (checkpoint.trainer.steps_done < 1 ||
      checkpoint.losses.size() != static_cast<size_t>(checkpoint.trainer.steps_done))
    fail(ErrorCode::kBadData, "{}: {} steps but {} losses", path, checkpoint.trainer.steps_done,
         checkpoint.losses.size());
  check_identity(checkpoint.identity, identity, folder);
  const auto set = SafetensorsSet::open_file(folder + "/state.safetensors");
  for (const std::string& name : names) {
    const SafetensorsEntry* entry = set.find(name);
    if (!entry)
      fail(ErrorCode::kBadData, "{}/state.safetensors: tensor {} is missing", folder,
           excerpt(name));
    checkpoint.trainer.tensors.push_back({name, entry->shape, set.read_floats(*entry)});
  }
  return checkpoint;
}

}  // namespace lapidary
