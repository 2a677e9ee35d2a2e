// state.safetensors holds numbers, state.json the rest and the hash of the numbers.
#include "finetune/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/hash.h"
#include "formats/json_guard.h"
#include "formats/safetensors.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::string_view kPrefix = "step-";

// Steps of the checkpoints there are, newest first.
std::vector<int64_t> steps_in(const std::string& folder) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(kPrefix) || name.size() > kPrefix.size() + 18) continue;
    const std::string digits = name.substr(kPrefix.size());
    if (!digits.empty() &&
        std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }))
      steps.push_back(std::stoll(digits));
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

std::string name_of(const std::string& folder, int64_t step) {
  return fmt::format("{}/{}{:08}", folder, kPrefix, step);
}

void prune(const std::string& folder, int64_t keep) {
  const std::vector<int64_t> steps = steps_in(folder);
  std::error_code error;
  for (size_t i = static_cast<size_t>(keep); i < steps.size(); ++i)
    fs::remove_all(name_of(folder, steps[i]), error);
  std::vector<fs::path> left_over;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(kPrefix) &&
        (name.find(".tmp-") != std::string::npos || name.find(".old-") != std::string::npos))
      left_over.push_back(it->path());
  }
  for (const fs::path& path : left_over) fs::remove_all(path, error);
}

// What a run that diverged is continued with lower; all else must stay as it was.
bool may_change(const std::string& name) { return name == "--lr" || name == "--clip"; }

void check_identity(const std::map<std::string, std::string>& found,
                    const std::map<std::string, std::string>& expected, const std::string& folder,
                    const Events& events) {
  for (const auto& [name, value] : expected) {
    const auto it = found.find(name);
    if (it == found.end())
      fail(ErrorCode::kBadData, "{}: the checkpoint does not say its {}", folder, name);
    if (it->second == value) continue;
    if (may_change(name))
      events.note(
          fmt::format("continuing with {} {}; until here it was {}", name, value, it->second));
    else
      fail(ErrorCode::kUsage,
           "{}: the interrupted run had {} {}, this one has {}; give the same options and data, or "
           "start anew with --overwrite",
           folder, name, it->second, value);
  }
}

std::string hash_of_file(const std::string& path) {
  return to_hex(hash_bytes(MappedFile(path).bytes()));
}

std::vector<NamedFloats> as_tensors(const std::vector<LoraModule>& modules) {
  std::vector<NamedFloats> tensors;
  for (const LoraModule& m : modules) {
    const int64_t n = m.n_matrices();
    tensors.push_back({"best." + m.module + ".a", {n, m.rank, m.in}, m.a});
    tensors.push_back({"best." + m.module + ".b", {n, m.out, m.rank}, m.b});
    if (!m.magnitude.empty())
      tensors.push_back({"best." + m.module + ".magnitude", {n, m.out}, m.magnitude});
  }
  return tensors;
}

// What as_tensors() made of the modules; everything else of a module is in state.json.
LoraModule read_module(const SafetensorsSet& set, const Json& json, const std::string& path) {
  LoraModule m;
  m.module = json.at("module").get<std::string>();
  m.rank = json.at("rank").get<int64_t>();
  m.in = json.at("in").get<int64_t>();
  m.out = json.at("out").get<int64_t>();
  m.n_experts = json.at("n_experts").get<int64_t>();
  m.scale = json.at("scale").get<float>();
  const auto read = [&](const char* part, const std::vector<int64_t>& shape, bool required) {
    const SafetensorsEntry* entry = set.find("best." + m.module + part);
    if (!entry && !required) return std::vector<float>{};
    if (!entry || entry->shape != shape)
      fail(ErrorCode::kBadData, "{}: the best adapter's {}{} is missing or has another shape", path,
           excerpt(m.module), part);
    return set.read_floats(*entry);
  };
  const int64_t n = m.n_matrices();
  m.a = read(".a", {n, m.rank, m.in}, true);
  m.b = read(".b", {n, m.out, m.rank}, true);
  m.magnitude = read(".magnitude", {n, m.out}, false);
  return m;
}

Checkpoint read_one(const std::string& folder) {
  const std::string path = folder + "/state.json", numbers = folder + "/state.safetensors";
  const std::string text = read_text(path);
  guard_json(text, path);
  Checkpoint c;
  try {
    const Json state = Json::parse(text);
    c.identity = state.at("identity").get<std::map<std::string, std::string>>();
    c.trainer.steps_done = state.at("steps_done").get<int64_t>();
    c.tokens = state.at("tokens").get<int64_t>();
    c.general_tokens = state.at("general_tokens").get<int64_t>();
    c.losses = state.at("losses").get<std::vector<double>>();
    c.log = state.at("log").get<std::string>();
    c.events = read_text(folder + "/events");
    if (state.at("numbers").get<std::string>() != hash_of_file(numbers))
      fail(ErrorCode::kBadData, "{}: damaged: its hash is not the recorded one", numbers);
    const auto set = SafetensorsSet::open_file(numbers);
    for (const Json& name : state.at("tensors")) {
      const SafetensorsEntry* entry = set.find(name.get<std::string>());
      if (!entry)
        fail(ErrorCode::kBadData, "{}: tensor {} is missing", numbers,
             excerpt(name.get<std::string>()));
      c.trainer.tensors.push_back({name.get<std::string>(), entry->shape, set.read_floats(*entry)});
    }
    for (const Json& module : state.at("best")) c.best.push_back(read_module(set, module, numbers));
  } catch (const Json::exception& e) {
    fail(ErrorCode::kBadData, "{}: not a checkpoint of this program: {}", path, e.what());
  }
  if (c.trainer.steps_done < 1 || c.losses.size() != static_cast<size_t>(c.trainer.steps_done))
    fail(ErrorCode::kBadData, "{}: {} steps but {} losses", path, c.trainer.steps_done,
         c.losses.size());
  return c;
}

}  // namespace

void write_checkpoint(const std::string& folder, const Checkpoint& checkpoint, int64_t keep) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(ErrorCode::kIo, "{}: {}", folder, error.message());
  AtomicFolder output(name_of(folder, checkpoint.trainer.steps_done), /*overwrite=*/true);
  std::vector<SafetensorsOutput> tensors;
  const auto add = [&](const NamedFloats& t) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(t.values.data());
    tensors.push_back({t.name, DType::kF32, t.shape, {bytes, t.values.size() * sizeof(float)}});
  };
  Json names = Json::array(), best = Json::array();
  for (const NamedFloats& t : checkpoint.trainer.tensors) {
    add(t);
    names.push_back(t.name);
  }
  const std::vector<NamedFloats> best_tensors = as_tensors(checkpoint.best);
  for (const NamedFloats& t : best_tensors) add(t);
  for (const LoraModule& m : checkpoint.best)
    best.push_back({{"module", m.module},
                    {"rank", m.rank},
                    {"in", m.in},
                    {"out", m.out},
                    {"n_experts", m.n_experts},
                    {"scale", m.scale}});
  const std::string numbers = output.temporary() + "/state.safetensors";
  write_safetensors(numbers, tensors);
  write_text_atomically(output.temporary() + "/events", checkpoint.events);
  const Json state{{"steps_done", checkpoint.trainer.steps_done},
                   {"identity", checkpoint.identity},
                   {"numbers", hash_of_file(numbers)},
                   {"tensors", names},
                   {"best", best},
                   {"tokens", checkpoint.tokens},
                   {"general_tokens", checkpoint.general_tokens},
                   {"losses", checkpoint.losses},
                   {"log", checkpoint.log}};
  write_text_atomically(output.temporary() + "/state.json", state.dump(1) + "\n");
  output.commit();
  prune(folder, keep);
}

bool has_checkpoint(const std::string& folder) { return !steps_in(folder).empty(); }

Checkpoint read_checkpoint(const std::string& folder,
                           const std::map<std::string, std::string>& identity,
                           const Events& events) {
  const std::vector<int64_t> steps = steps_in(folder);
  if (steps.empty())
    fail(ErrorCode::kNotFound, "{}: no checkpoint there; start the run without --resume", folder);
  for (size_t i = 0;; ++i) {
    const std::string newest = name_of(folder, steps[i]);
    try {
      Checkpoint checkpoint = read_one(newest);
      check_identity(checkpoint.identity, identity, newest, events);
      return checkpoint;
    } catch (const Error& e) {
      const bool damaged = e.code() == ErrorCode::kBadData || e.code() == ErrorCode::kNotFound;
      if (!damaged || i + 1 == steps.size()) throw;
      events.note(fmt::format("{}; taking the checkpoint before it", e.what()));
    }
  }
}

}  // namespace lapidary
