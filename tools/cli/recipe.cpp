// TOML values become the same strings that the command line would have given, so that CLI11 checks
// and converts them in one way only.
#include "tools/cli/recipe.h"

#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "formats/error.h"
#include "formats/file.h"

namespace lapidary {
namespace {

constexpr uint64_t kRecipeLimitBytes = 1 << 20;
// Never recorded: they say how to run, not what was made.
const std::set<std::string> kNotRecorded{"help",   "json",    "quiet",     "recipe", "threads",
                                         "output", "dry-run", "overwrite", "resume"};

std::string scalar_text(const toml::node& node, const std::string& where) {
  if (auto v = node.value_exact<std::string>()) return *v;
  if (auto v = node.value_exact<int64_t>()) return std::to_string(*v);
  if (auto v = node.value_exact<bool>()) return *v ? "true" : "false";
  if (auto v = node.value_exact<double>()) {
    std::ostringstream text;
    text.precision(17);
    text << *v;
    return text.str();
  }
  fail(ErrorCode::kBadData, "{}: expected a string, number, boolean or list of these", where);
}

}  // namespace

void add_recipe_option(CLI::App& command) {
  command.add_option("--recipe", "TOML file with any of these options; the command line wins")
      ->type_name("FILE");
}

void apply_recipe(CLI::App& command) {
  const CLI::Option* recipe = command.get_option("--recipe");
  if (recipe->count() == 0) return;
  const std::string path = recipe->as<std::string>();
  toml::table table;
  try {
    table = toml::parse(read_text(path, kRecipeLimitBytes), path);
  } catch (const toml::parse_error& e) {
    fail(ErrorCode::kBadData, "{}:{}: {}", path, e.source().begin.line, e.description());
  }
  for (auto&& [key, node] : table) {
    const std::string name(key.str());
    const std::string where = fmt::format("{}:{}: {}", path, node.source().begin.line, name);
    CLI::Option* option = command.get_option_no_throw("--" + name);
    if (!option || name == "recipe" || name == "help")
      fail(ErrorCode::kUsage, "{} is no option of `lapidary {}`; see its --help", where,
           command.get_name());
    if (option->count() > 0) continue;
    if (const toml::array* list = node.as_array()) {
      for (const toml::node& item : *list) option->add_result(scalar_text(item, where));
    } else {
      option->add_result(scalar_text(node, where));
    }
    if (option->count() > 0) option->run_callback();
  }
}

std::string resolved_recipe(const CLI::App& command) {
  nlohmann::ordered_json recipe = nlohmann::ordered_json::object();
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty()) continue;
    const std::string name = option->get_lnames().front();
    if (kNotRecorded.count(name)) continue;
    std::vector<std::string> values = option->results();
    if (values.empty() && !option->get_default_str().empty()) values = {option->get_default_str()};
    if (values.empty()) continue;
    for (std::string& value : values)
      if (value.find('/') != std::string::npos && path_exists(value))
        value = std::filesystem::path(value).filename().string();
    if (values.size() == 1)
      recipe[name] = values.front();
    else
      recipe[name] = values;
  }
  return recipe.dump();
}

}  // namespace lapidary
