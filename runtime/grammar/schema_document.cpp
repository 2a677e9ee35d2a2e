// Reading a schema: every keyword is understood, refused or known to change nothing.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "runtime/grammar/schema.h"

namespace lapidary::grammar {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kMaxNesting = 256;

// They narrow what is valid, and masks cannot express them.
constexpr std::array kUnsupported = {"not",
                                     "if",
                                     "then",
                                     "else",
                                     "dependentRequired",
                                     "dependentSchemas",
                                     "dependencies",
                                     "contains",
                                     "minContains",
                                     "maxContains",
                                     "$dynamicRef",
                                     "$recursiveRef"};

class Reader {
 public:
  SchemaPtr read(const Json& json, const std::string& where) const {
    const auto schema = std::make_shared<Schema>();
    if (json.is_boolean()) {
      schema->is_never = !json.get<bool>();
      return schema;
    }
    if (!json.is_object())
      fail(ErrorCode::kBadData, "{}: found {}, expected a schema (an object, true or false)", where,
           excerpt(json.dump()));
    for (const char* keyword : kUnsupported)
      if (json.contains(keyword))
        fail(ErrorCode::kUsage, "{}: {} is not supported in constrained output", where, keyword);
    read_general(json, where, *schema);
    read_numbers(json, where, *schema);
    read_strings(json, where, *schema);
    read_arrays(json, where, *schema);
    read_objects(json, where, *schema);
    return schema;
  }

 private:
  static const Json* find(const Json& json, const char* key) {
    const auto found = json.find(key);
    return found == json.end() ? nullptr : &*found;
  }
  [[noreturn]] static void wrong(const std::string& where, const char* key, const Json& found,
                                 const char* expected) {
    fail(ErrorCode::kBadData, "{}: {} is {}, expected {}", where, key, excerpt(found.dump()),
         expected);
  }

  static uint8_t type_bit(const std::string& where, const Json& name) {
    static const std::map<std::string, uint8_t> types{{"null", kNull},
                                                      {"boolean", kBoolean},
                                                      {"integer", kInteger},
                                                      {"string", kString},
                                                      {"array", kArray},
                                                      {"object", kObject},
                                                      {"number", kInteger | kFraction}};
    const auto found = name.is_string() ? types.find(name.get<std::string>()) : types.end();
    if (found == types.end()) wrong(where, "type", name, "a JSON type's name");
    return found->second;
  }

  static Literal literal(const Json& value) {
    const uint8_t type = value.is_null()             ? kNull
                         : value.is_boolean()        ? kBoolean
                         : value.is_number_integer() ? kInteger
                         : value.is_number()         ? kFraction
                         : value.is_string()         ? kString
                         : value.is_array()          ? kArray
                                                     : kObject;
    return {value.dump(), type};
  }

  void read_general(const Json& json, const std::string& where, Schema& s) const {
    if (const Json* type = find(json, "type")) {
      s.types = 0;
      if (type->is_array())
        for (const Json& name : *type) s.types |= type_bit(where, name);
      else
        s.types = type_bit(where, *type);
    }
    if (const Json* list = find(json, "enum")) {
      if (!list->is_array()) wrong(where, "enum", *list, "an array");
      s.literals.emplace();
      for (const Json& value : *list) s.literals->push_back(literal(value));
    }
    if (const Json* value = find(json, "const")) {
      const Literal only = literal(*value);
      if (s.literals)
        std::erase_if(*s.literals, [&](const Literal& l) { return l.json != only.json; });
      else
        s.literals.emplace(1, only);
    }
    // OpenAPI 3.0's way to add null.
    if (const Json* nullable = find(json, "nullable"); nullable && *nullable == true) {
      s.types |= kNull;
      if (s.literals) s.literals->push_back({"null", kNull});
    }
    if (const Json* ref = find(json, "$ref")) {
      if (!ref->is_string()) wrong(where, "$ref", *ref, "a string");
      s.ref = ref->get<std::string>();
    }
    for (const SchemaPtr& part : list(json, "allOf", where)) s.all_of.push_back(part);
    if (auto options = list(json, "anyOf", where); json.contains("anyOf"))
      s.alternatives.push_back({std::move(options), false});
    if (auto options = list(json, "oneOf", where); json.contains("oneOf"))
      s.alternatives.push_back({std::move(options), true});
  }

  std::vector<SchemaPtr> list(const Json& json, const char* key, const std::string& where) const {
    std::vector<SchemaPtr> schemas;
    const Json* found = find(json, key);
    if (!found) return schemas;
    if (!found->is_array() || found->empty()) wrong(where, key, *found, "a list of schemas");
    for (size_t i = 0; i < found->size(); ++i)
      schemas.push_back(read((*found)[i], fmt::format("{}/{}/{}", where, key, i)));
    return schemas;
  }

  static Decimal decimal(const std::string& where, const char* key, const Json& value) {
    if (!value.is_number()) wrong(where, key, value, "a number");
    // The shortest digits that mean the same double.
    const std::string text =
        value.is_number_float() ? fmt::format("{}", value.get<double>()) : value.dump();
    const std::optional<Decimal> parsed = parse_decimal(text);
    if (!parsed)
      fail(ErrorCode::kUsage,
           "{}: {} is {}; constrained output takes bounds of at most 18 digits, {} of them behind "
           "the point",
           where, key, text, Decimal::kMaxScale);
    return *parsed;
  }

  void read_numbers(const Json& json, const std::string& where, Schema& s) const {
    const auto bound = [&](const char* key, const char* open_key, std::optional<Bound>& out,
                           bool is_lower) {
      const Json* closed = find(json, key);
      const Json* open = find(json, open_key);
      if (closed) out = {decimal(where, key, *closed), open && *open == true};  // draft 4
      if (!open || open->is_boolean()) return;
      const Decimal value = decimal(where, open_key, *open);
      const bool is_tighter =
          !out || (is_lower ? !less(value, out->value) : !less(out->value, value));
      if (is_tighter) out = {value, true};
    };
    bound("minimum", "exclusiveMinimum", s.minimum, true);
    bound("maximum", "exclusiveMaximum", s.maximum, false);
    if (const Json* multiple = find(json, "multipleOf")) {
      s.multiple_of = decimal(where, "multipleOf", *multiple);
      if (s.multiple_of->units <= 0) wrong(where, "multipleOf", *multiple, "a number over 0");
    }
  }

  static int64_t count(const Json& json, const char* key, const std::string& where,
                       int64_t otherwise) {
    const Json* found = find(json, key);
    if (!found) return otherwise;
    const bool is_whole = found->is_number() && found->get<double>() >= 0 &&
                          found->get<double>() <= 1e15 &&
                          std::floor(found->get<double>()) == found->get<double>();
    if (!is_whole) wrong(where, key, *found, "a whole number from 0");
    return found->get<int64_t>();
  }
  static std::optional<std::string> text(const Json& json, const char* key,
                                         const std::string& where) {
    const Json* found = find(json, key);
    if (!found) return std::nullopt;
    if (!found->is_string()) wrong(where, key, *found, "a string");
    return found->get<std::string>();
  }

  void read_strings(const Json& json, const std::string& where, Schema& s) const {
    s.min_length = count(json, "minLength", where, 0);
    s.max_length = count(json, "maxLength", where, -1);
    s.pattern = text(json, "pattern", where);
    s.format = text(json, "format", where);
  }

  void read_arrays(const Json& json, const std::string& where, Schema& s) const {
    s.min_items = count(json, "minItems", where, 0);
    s.max_items = count(json, "maxItems", where, -1);
    if (const Json* unique = find(json, "uniqueItems"); unique && *unique == true)
      fail(ErrorCode::kUsage, "{}: uniqueItems is not supported in constrained output", where);
    s.prefix_items = list(json, "prefixItems", where);
    const Json* items = find(json, "items");
    if (items && items->is_array()) {  // before 2020-12
      if (!items->empty()) s.prefix_items = list(json, "items", where);
      if (const Json* rest = find(json, "additionalItems"))
        s.items = read(*rest, where + "/additionalItems");
    } else if (items) {
      s.items = read(*items, where + "/items");
    }
    if (const Json* rest = find(json, "unevaluatedItems"); rest && *rest != false)
      fail(ErrorCode::kUsage, "{}: unevaluatedItems other than false is not supported", where);
  }

  void read_objects(const Json& json, const std::string& where, Schema& s) const {
    s.min_properties = count(json, "minProperties", where, 0);
    s.max_properties = count(json, "maxProperties", where, -1);
    s.properties = members(json, "properties", where);
    s.pattern_properties = members(json, "patternProperties", where);
    if (const Json* names = find(json, "required")) {
      // Draft 3 wrote true beside a property.
      if (!names->is_array()) wrong(where, "required", *names, "a list of names");
      for (const Json& name : *names) {
        if (!name.is_string()) wrong(where, "required", *names, "a list of names");
        s.required.push_back(name.get<std::string>());
      }
    }
    if (const Json* rest = find(json, "additionalProperties"))
      s.additional = read(*rest, where + "/additionalProperties");
    if (const Json* rest = find(json, "unevaluatedProperties"); rest && *rest != false)
      fail(ErrorCode::kUsage, "{}: unevaluatedProperties other than false is not supported", where);
    if (const Json* names = find(json, "propertyNames"))
      s.property_names = read(*names, where + "/propertyNames");
  }

  std::vector<Property> members(const Json& json, const char* key, const std::string& where) const {
    std::vector<Property> found;
    const Json* object = find(json, key);
    if (!object) return found;
    if (!object->is_object()) wrong(where, key, *object, "an object");
    for (const auto& [name, schema] : object->items())
      found.push_back({name, read(schema, fmt::format("{}/{}/{}", where, key, excerpt(name)))});
    return found;
  }
};

}  // namespace

struct SchemaDocument::Json {
  grammar::Json document;
  std::map<std::string, SchemaPtr> targets;
};

SchemaDocument::SchemaDocument(std::string_view json) : json_(new Json) {
  guard_json(json, "JSON schema", kMaxNesting);
  json_->document = grammar::Json::parse(json);
  root_ = Reader().read(json_->document, "JSON schema");
}
SchemaDocument::~SchemaDocument() = default;

SchemaPtr SchemaDocument::target(const std::string& ref) {
  SchemaPtr& known = json_->targets[ref];
  if (known) return known;
  if (ref == "#") return known = root_;
  if (!ref.starts_with("#/"))
    fail(ErrorCode::kUsage, "JSON schema: $ref \"{}\" is not supported; use # or #/...",
         excerpt(ref));
  std::string pointer;  // with %xx decoded
  for (size_t i = 1; i < ref.size(); ++i)
    if (ref[i] == '%' && i + 2 < ref.size() && std::isxdigit(ref[i + 1]) &&
        std::isxdigit(ref[i + 2])) {
      pointer += static_cast<char>(std::stoi(ref.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      pointer += ref[i];
    }
  try {
    return known = Reader().read(json_->document.at(grammar::Json::json_pointer(pointer)),
                                 "JSON schema: " + excerpt(ref));
  } catch (const nlohmann::json::exception&) {
    fail(ErrorCode::kBadData, "JSON schema: $ref \"{}\" points to nothing", excerpt(ref));
  }
}

}  // namespace lapidary::grammar
