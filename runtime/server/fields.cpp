// nlohmann's ordered objects keep a schema's order of properties, and look names up one by one:
// hence the limit on their number.
#include "runtime/server/fields.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/json_guard.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxMembers = 1024;
constexpr int kMaxDepth = 64;

// Refuses wide objects while they are read.
struct CountMembers {
  std::vector<size_t> open;
  bool operator()(int depth, Json::parse_event_t event, Json&) {
    const auto level = static_cast<size_t>(depth);
    if (event == Json::parse_event_t::object_start) {
      open.resize(level + 2);
      open[level + 1] = 0;
    } else if (event == Json::parse_event_t::key) {
      if (level >= open.size()) open.resize(level + 1);
      if (++open[level] > kMaxMembers)
        refuse_field("", fmt::format("an object of the request has over {} members", kMaxMembers));
    }
    return true;
  }
};

}  // namespace

struct Fields::Value {
  Json json;
};

Fields Fields::parse(std::string_view body) {
  auto value = std::make_shared<Value>();
  try {
    guard_json(body, "the request's body", kMaxDepth);
    value->json = Json::parse(body, CountMembers{});
  } catch (const ApiError&) {
    throw;
  } catch (const Error& e) {
    refuse_field("", e.what());
  } catch (const Json::exception&) {
    refuse_field("", "the request's body is not JSON");
  }
  if (!value->json.is_object()) refuse_field("", "the request's body is not a JSON object");
  return {std::move(value), ""};
}

Fields::Kind Fields::kind() const {
  switch (value_->json.type()) {
    case Json::value_t::boolean:
      return Kind::kFlag;
    case Json::value_t::string:
      return Kind::kText;
    case Json::value_t::array:
      return Kind::kArray;
    case Json::value_t::object:
      return Kind::kObject;
    case Json::value_t::null:
      return Kind::kNull;
    default:
      return Kind::kNumber;
  }
}

std::optional<Fields> Fields::member(const char* name) const {
  if (!value_->json.is_object()) refuse("expected an object");
  const auto found = value_->json.find(name);
  if (found == value_->json.end() || found->is_null()) return std::nullopt;
  const std::string where = where_.empty() ? name : where_ + "." + name;
  return Fields(std::make_shared<Value>(Value{*found}), where);
}

Fields Fields::need(const char* name) const {
  if (auto found = member(name)) return *std::move(found);
  refuse_field(where_.empty() ? name : where_ + "." + name, "is required");
}

std::optional<std::string> Fields::text(const char* name) const {
  const auto found = member(name);
  if (!found) return std::nullopt;
  return found->as_text();
}

std::optional<bool> Fields::flag(const char* name) const {
  const auto found = member(name);
  if (!found) return std::nullopt;
  if (!found->value_->json.is_boolean()) found->refuse("expected true or false");
  return found->value_->json.get<bool>();
}

std::optional<int64_t> Fields::integer(const char* name, int64_t min, int64_t max) const {
  const auto found = member(name);
  if (!found) return std::nullopt;
  return found->as_integer(min, max);
}

std::optional<double> Fields::number(const char* name, double min, double max) const {
  const auto found = member(name);
  if (!found) return std::nullopt;
  return found->as_number(min, max);
}

std::optional<Fields> Fields::object(const char* name) const {
  auto found = member(name);
  if (found && found->kind() != Kind::kObject) found->refuse("expected an object");
  return found;
}

std::optional<std::vector<Fields>> Fields::array(const char* name) const {
  const auto found = member(name);
  if (!found) return std::nullopt;
  return found->items();
}

std::string Fields::json(const char* name) const {
  const auto found = member(name);
  return found ? found->json() : std::string();
}

std::string Fields::need_text(const char* name) const { return need(name).as_text(); }

std::vector<Fields> Fields::need_array(const char* name) const { return need(name).items(); }

std::string Fields::as_text() const {
  if (!value_->json.is_string()) refuse("expected a string");
  return value_->json.get<std::string>();
}

int64_t Fields::as_integer(int64_t min, int64_t max) const {
  const Json& json = value_->json;
  const bool is_large = json.is_number_unsigned() && json.get<uint64_t>() > uint64_t(INT64_MAX);
  if (!json.is_number_integer()) refuse("expected an integer");
  if (is_large || json.get<int64_t>() < min || json.get<int64_t>() > max)
    refuse(fmt::format("expected {} to {}", min, max));
  return json.get<int64_t>();
}

double Fields::as_number(double min, double max) const {
  if (!value_->json.is_number()) refuse("expected a number");
  const double number = value_->json.get<double>();
  if (!(number >= min && number <= max)) refuse(fmt::format("expected {} to {}", min, max));
  return number;
}

std::vector<Fields> Fields::items() const {
  if (!value_->json.is_array()) refuse("expected an array");
  std::vector<Fields> items;
  for (const Json& item : value_->json)
    items.push_back(
        {std::make_shared<Value>(Value{item}), fmt::format("{}[{}]", where_, items.size())});
  return items;
}

std::vector<std::pair<std::string, Fields>> Fields::members() const {
  if (!value_->json.is_object()) refuse("expected an object");
  std::vector<std::pair<std::string, Fields>> members;
  for (const auto& [name, item] : value_->json.items())
    members.emplace_back(name, Fields(std::make_shared<Value>(Value{item}), where_ + "." + name));
  return members;
}

std::string Fields::json() const { return value_->json.dump(); }

}  // namespace lapidary::server
