// lapidary inspect: what is inside a .lap, a safetensors file or folder, or a PEFT folder.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/lap.h"
#include "formats/peft.h"
#include "formats/safetensors.h"
#include "runtime/kv_choice.h"
#include "tools/cli/command_options.h"
#include "tools/cli/kv_table.h"
#include "tools/cli/progress.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

Json describe_lap(const LapReader& lap) {
  Json json{{"format", "lap"},
            {"config", Json::parse(to_json(lap.metadata().config))},
            {"tensors", Json::array()},
            {"bits_per_weight", lap.bits_per_weight()},
            {"content_hash", lap.content_hash()},
            {"file_bytes", lap.file_bytes()},
            {"provenance", Json::parse(lap.metadata().provenance)},
            {"recipe", Json::parse(lap.metadata().recipe)}};
  for (const LapTensor& t : lap.index())
    json["tensors"].push_back({{"name", t.name},
                               {"shape", t.shape},
                               {"code", code_name(t.code)},
                               {"bytes", t.bytes},
                               {"hash", to_hex(t.hash)}});
  return json;
}

Json describe_safetensors(const SafetensorsSet& set) {
  Json json{{"format", "safetensors"},
            {"config", nullptr},
            {"tensors", Json::array()},
            {"bits_per_weight", nullptr},
            {"provenance", set.file_metadata()}};
  for (const SafetensorsEntry& t : set.entries())
    json["tensors"].push_back({{"name", t.name},
                               {"shape", t.shape},
                               {"code", dtype_name(t.dtype)},
                               {"bytes", t.bytes},
                               {"hash", nullptr}});
  return json;
}

Json describe_peft(const PeftAdapter& adapter) {
  Json json{{"format", "peft"},
            {"config",
             {{"rank", adapter.config.rank},
              {"alpha", adapter.config.alpha},
              {"rslora", adapter.config.rslora},
              {"dora", adapter.config.dora},
              {"target_modules", adapter.config.target_modules}}},
            {"tensors", Json::array()},
            {"bits_per_weight", nullptr},
            {"provenance",
             {{"base_model_name", adapter.config.base_model_name},
              {"base_hash", adapter.base_hash},
              {"base_source_hash", adapter.base_source_hash}}}};
  for (const LoraModule& m : adapter.modules)
    json["tensors"].push_back({{"name", m.module},
                               {"shape", {m.out, m.in}},
                               {"code", "rank " + std::to_string(m.rank)},
                               {"bytes", 4 * (m.a.size() + m.b.size() + m.magnitude.size())},
                               {"hash", nullptr}});
  return json;
}

std::string shape_text(const Json& shape) {
  std::string text;
  for (const Json& n : shape) text += (text.empty() ? "" : " x ") + n.dump();
  return text;
}

void print_tensors(const Json& json, bool list_each) {
  uint64_t bytes = 0;
  for (const Json& t : json["tensors"]) {
    bytes += t["bytes"].get<uint64_t>();
    if (!list_each) continue;
    fmt::print("{:58} {:>20}  {:8} {:>10}\n", t["name"].get<std::string>(), shape_text(t["shape"]),
               t["code"].get<std::string>(), format_bytes(t["bytes"].get<double>()));
  }
  fmt::print("{}{}: {} tensors, {}\n", list_each ? "\n" : "", json["format"].get<std::string>(),
             json["tensors"].size(), format_bytes(static_cast<double>(bytes)));
}

void print_lap(const LapReader& lap) {
  const ModelConfig& c = lap.metadata().config;
  int n_global = 0, n_shared = 0;
  for (int i = 0; i < c.n_layers(); ++i) {
    n_global += c.layers[i].attention == AttentionKind::kGlobal;
    n_shared += !c.owns_kv(i);
  }
  if (c.is_assistant())
    fmt::print("an assistant of a model with d_model {}: --draft-model of run and serve\n",
               c.assistant.target_width);
  fmt::print("family {}: {} layers ({} global, {} sharing K/V), d_model {}, vocabulary {}\n",
             c.family, c.n_layers(), n_global, n_shared, c.d_model, c.vocab_size);
  fmt::print("{:.3f} bits per weight, content {}\n", lap.bits_per_weight(), lap.content_hash());
  fmt::print("provenance {}\n", lap.metadata().provenance);
}

struct InspectCommand {
  std::string path;
  bool verify = false, summary = false;
  int64_t context = 0;  // plan the cache for that many tokens; 0: not asked for
  KvText kv;
  OutputOptions out;

  int plan_cache() const {
    const ModelMetadata metadata = read_description(path);
    const KvOptions options = kv_for(parse_kv(kv), metadata);
    const auto table = out.json ? kv_table_json : kv_table_text;
    fmt::print("{}\n", table(metadata.config, options, context));
    return 0;
  }

  int run() const {
    if (context > 0) {
      if (verify) fail(ErrorCode::kUsage, "--verify reads data, --context needs none; give one");
      return plan_cache();
    }
    if (parse_kv(kv)) fail(ErrorCode::kUsage, "--kv plans a cache; give --context N too");
    if (!path_exists(path)) fail(ErrorCode::kNotFound, "'{}': no such file or folder", path);
    if (is_folder(path)) {
      if (verify) fail(ErrorCode::kUsage, "--verify needs a .lap file; a folder holds no hashes");
      print(path_exists(path + "/adapter_config.json")
                ? describe_peft(read_peft(path))
                : describe_safetensors(SafetensorsSet::open_folder(path)));
      return 0;
    }
    if (path.ends_with(".safetensors")) {
      if (verify) fail(ErrorCode::kUsage, "--verify needs a .lap file; safetensors hold no hashes");
      print(describe_safetensors(SafetensorsSet::open_file(path)));
      return 0;
    }
    const std::unique_ptr<LapReader> lap = LapReader::open(path);
    Json json = describe_lap(*lap);
    if (verify) {
      ProgressLine progress(out.quiet);
      const std::vector<std::string> changed = lap->verify(progress.events());
      if (!changed.empty())
        fail(ErrorCode::kBadData,
             "{}: {} of {} tensors changed since they were written, first {}; "
             "copy or make the file again",
             path, changed.size(), lap->index().size(), changed.front());
      json["verified"] = true;
    }
    print(json);
    if (!out.json) {
      print_lap(*lap);
      if (verify) fmt::print("every hash is right\n");
    }
    return 0;
  }

  void print(const Json& json) const {
    if (out.json)
      fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
    else
      print_tensors(json, !summary);
  }
};

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto command = std::make_shared<InspectCommand>();
  CLI::App* sub =
      app.add_subcommand("inspect", "What is inside a .lap, safetensors or PEFT folder");
  sub->add_option("path", command->path, "A .lap or .safetensors file, a checkpoint or PEFT folder")
      ->required()
      ->type_name("X");
  sub->add_flag("--verify", command->verify, "Read everything and check every hash");
  sub->add_flag("--summary", command->summary, "No list of tensors");
  sub->add_option("--context", command->context,
                  "Plan the KV cache of that many tokens; a folder's config.json is enough")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, (int64_t{1} << 31) - 1));
  add_kv_options(*sub, command->kv);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary inspect model.lap --summary\n"
      "  lapidary inspect model.lap --verify\n  lapidary inspect tuned/ --json\n"
      "  lapidary inspect gemma-4-31B-it/config.json --context 262144 --kv k8v8");
  sub->callback([command, &action] { action = [command] { return command->run(); }; });
}

}  // namespace lapidary
