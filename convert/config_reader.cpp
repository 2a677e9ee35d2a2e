// The JSON side of ConfigReader.
#include "convert/config_reader.h"

#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "formats/error.h"
#include "formats/json_guard.h"

namespace lapidary {

struct ConfigReader::Node {
  nlohmann::json object;
  std::string where;  // "config.json" or "config.json: text_config"
  std::set<std::string, std::less<>> used;

  // The value, or null when absent. Counts as use.
  const nlohmann::json* get(std::string_view key) {
    used.emplace(key);
    const auto found = object.find(std::string(key));
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }
  const nlohmann::json& require(std::string_view key) {
    const nlohmann::json* value = get(key);
    if (!value) fail(ErrorCode::kBadData, "{}: key '{}' is missing", where, key);
    return *value;
  }
  // The value as it stands in the file, cut to what fits into one line.
  static std::string shown(const nlohmann::json& value) {
    std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 57) + "...";
    return text;
  }
  [[noreturn]] void wrong(std::string_view key, const nlohmann::json& value,
                          std::string_view expected) const {
    fail(ErrorCode::kBadData, "{}: key '{}' is {}, expected {}", where, key, shown(value),
         expected);
  }
  int64_t integer(std::string_view key, const nlohmann::json& value, int64_t low, int64_t high) {
    const bool fits = value.is_number_integer() &&
                      !(value.is_number_unsigned() &&
                        value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()});
    if (!fits || value.get<int64_t>() < low || value.get<int64_t>() > high)
      wrong(key, value, fmt::format("an integer from {} to {}", low, high));
    return value.get<int64_t>();
  }
};

namespace {

constexpr int64_t kLargestSize = int64_t{1} << 24;  // as validate(ModelConfig)
constexpr int64_t kLongestContext = int64_t{1} << 40;

bool is_neutral(const nlohmann::json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0;
  return value.empty();
}

}  // namespace

ConfigReader::ConfigReader(std::string_view json, std::string where)
    : node_(std::make_shared<Node>()) {
  node_->where = std::move(where);
  guard_json(json, node_->where);
  node_->object = nlohmann::json::parse(json);
  if (!node_->object.is_object())
    fail(ErrorCode::kBadData, "{}: expected a JSON object", node_->where);
}

ConfigReader::ConfigReader(std::shared_ptr<Node> node) : node_(std::move(node)) {}

bool ConfigReader::has(std::string_view key) const {
  const auto found = node_->object.find(std::string(key));
  return found != node_->object.end() && !found->is_null();
}

int ConfigReader::size(std::string_view key) const {
  return static_cast<int>(node_->integer(key, node_->require(key), 1, kLargestSize));
}

int ConfigReader::size(std::string_view key, int fallback) const {
  const nlohmann::json* value = node_->get(key);
  return value ? static_cast<int>(node_->integer(key, *value, 1, kLargestSize)) : fallback;
}

int ConfigReader::count(std::string_view key, int fallback) const {
  const nlohmann::json* value = node_->get(key);
  return value ? static_cast<int>(node_->integer(key, *value, 0, kLargestSize)) : fallback;
}

int64_t ConfigReader::length(std::string_view key) const {
  return node_->integer(key, node_->require(key), 1, kLongestContext);
}

double ConfigReader::number(std::string_view key) const {
  const nlohmann::json& value = node_->require(key);
  if (!value.is_number() || !std::isfinite(value.get<double>()))
    node_->wrong(key, value, "a number");
  return value.get<double>();
}

double ConfigReader::number(std::string_view key, double fallback) const {
  return node_->get(key) ? number(key) : fallback;
}

bool ConfigReader::flag(std::string_view key, bool fallback) const {
  const nlohmann::json* value = node_->get(key);
  if (!value) return fallback;
  if (!value->is_boolean()) node_->wrong(key, *value, "true or false");
  return value->get<bool>();
}

std::string ConfigReader::text(std::string_view key) const {
  const nlohmann::json& value = node_->require(key);
  if (!value.is_string()) node_->wrong(key, value, "a string");
  return value.get<std::string>();
}

std::string ConfigReader::text(std::string_view key, std::string_view fallback) const {
  return node_->get(key) ? text(key) : std::string(fallback);
}

std::vector<std::string> ConfigReader::texts(std::string_view key) const {
  const nlohmann::json& value = node_->require(key);
  if (!value.is_array()) node_->wrong(key, value, "a list of strings");
  std::vector<std::string> texts;
  for (const auto& item : value) {
    if (!item.is_string()) node_->wrong(key, value, "a list of strings");
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

std::vector<int32_t> ConfigReader::ids(std::string_view key) const {
  std::vector<int32_t> ids;
  const nlohmann::json* value = node_->get(key);
  if (!value) return ids;
  const auto add = [&](const nlohmann::json& item) {
    const int64_t id = node_->integer(key, item, -1, kLargestSize);
    if (id >= 0) ids.push_back(static_cast<int32_t>(id));  // -1 is an old way to say "none"
  };
  if (!value->is_array()) {
    add(*value);
  } else {
    for (const auto& item : *value) add(item);
  }
  return ids;
}

ConfigReader ConfigReader::object(std::string_view key) const {
  const nlohmann::json& value = node_->require(key);
  if (!value.is_object()) node_->wrong(key, value, "an object");
  auto node = std::make_shared<Node>();
  node->object = value;
  node->where = fmt::format("{}: {}", node_->where, key);
  return ConfigReader(std::move(node));
}

std::vector<std::string> ConfigReader::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : node_->object.items()) keys.push_back(key);
  return keys;
}

bool ConfigReader::neutral(std::string_view key) const {
  const nlohmann::json* value = node_->get(key);
  return !value || is_neutral(*value);
}

void ConfigReader::refuse(std::string_view key, std::string_view why) const {
  if (!neutral(key))
    fail(ErrorCode::kBadData, "{}: key '{}' is {}: {}", node_->where, key,
         Node::shown(*node_->get(key)), why);
}

void ConfigReader::wrong(std::string_view key, std::string_view expected) const {
  node_->wrong(key, node_->object.value(std::string(key), nlohmann::json()), expected);
}

void ConfigReader::unsupported(std::string_view key, std::string_view supported) const {
  const auto found = node_->object.find(std::string(key));
  fail(ErrorCode::kBadData, "{}: key '{}' is {}, which is not supported (supported: {})",
       node_->where, key, found == node_->object.end() ? "missing" : Node::shown(*found),
       supported);
}

void ConfigReader::ignore(std::initializer_list<std::string_view> keys) const {
  for (const std::string_view key : keys) node_->used.emplace(key);
}

void ConfigReader::finish(std::span<const std::string_view> ignored) const {
  for (const auto& [key, value] : node_->object.items()) {
    if (node_->used.contains(key) || value.is_null()) continue;
    bool known = false;
    for (const std::string_view name : ignored) known = known || name == key;
    if (!known)
      fail(
          ErrorCode::kBadData,
          "{}: key '{}' = {} is unknown and may change the results; if it does not, remove it from "
          "the file, else this model is not supported",
          node_->where, key, Node::shown(value));
  }
}

}  // namespace lapidary
