// A JSON Schema as a plain value: what its keywords say, without the JSON they were written in.
//
// Keywords that narrow what is valid and are not supported are an Error when the schema is read, so
// nothing downstream can overlook one. Annotations and unknown keywords are skipped, as the
// specification asks. Drafts 7 to 2020-12 differ little here; both spellings are read.
// Source: https://json-schema.org/draft/2020-12/json-schema-validation
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lapidary::grammar {

// Bits of Schema::types. "number" is both of kInteger and kFraction.
enum TypeBit : uint8_t {
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kFraction = 8,
  kString = 16,
  kArray = 32,
  kObject = 64,
  kAllTypes = 127
};

// units / 10^scale.
struct Decimal {
  int64_t units = 0;
  int scale = 0;  // 0 to kMaxScale
  static constexpr int kMaxScale = 15;
  bool operator==(const Decimal&) const = default;
};
// Of a number as JSON or fmt writes it; none for more than 18 digits or a scale out of range.
std::optional<Decimal> parse_decimal(std::string text);
bool less(const Decimal& a, const Decimal& b);

struct Bound {
  Decimal value;
  bool is_open = false;  // the value itself is outside
};

struct Schema;
using SchemaPtr = std::shared_ptr<const Schema>;

struct Literal {
  std::string json;  // compact
  uint8_t type;      // a TypeBit
};

struct Property {
  std::string name;
  SchemaPtr schema;
};

struct Alternatives {
  std::vector<SchemaPtr> options;
  bool exactly_one = false;  // oneOf
};

struct Schema {
  bool is_never = false;  // the schema `false`
  uint8_t types = kAllTypes;
  std::optional<std::vector<Literal>> literals;  // enum, const

  std::optional<Bound> minimum, maximum;
  std::optional<Decimal> multiple_of;

  int64_t min_length = 0, max_length = -1;  // code points; -1: no bound
  std::optional<std::string> pattern, format;

  std::vector<SchemaPtr> prefix_items;
  SchemaPtr items;  // null: not said
  int64_t min_items = 0, max_items = -1;

  std::vector<Property> properties;
  std::vector<std::string> required;
  SchemaPtr additional;  // null: not said
  std::vector<Property> pattern_properties;
  SchemaPtr property_names;
  int64_t min_properties = 0, max_properties = -1;

  std::string ref;  // a JSON pointer into the document, with #; empty: none
  std::vector<SchemaPtr> all_of;
  std::vector<Alternatives> alternatives;  // each must hold

  const Property* find(std::string_view name) const;
  bool requires_property(std::string_view name) const;
  bool has_number_keywords() const { return minimum || maximum || multiple_of; }
  bool has_string_keywords() const {
    return min_length > 0 || max_length >= 0 || pattern || format;
  }
  bool has_array_keywords() const {
    return !prefix_items.empty() || items || min_items > 0 || max_items >= 0;
  }
  bool has_object_keywords() const {
    return !properties.empty() || !required.empty() || additional || !pattern_properties.empty() ||
           property_names || min_properties > 0 || max_properties >= 0;
  }
  // Nothing but, perhaps, a reference.
  bool is_plain() const {
    return !is_never && types == kAllTypes && !literals && !has_number_keywords() &&
           !has_string_keywords() && !has_array_keywords() && !has_object_keywords() &&
           all_of.empty() && alternatives.empty();
  }
};

// A schema and what its references point to.
class SchemaDocument {
 public:
  // Throws kBadData for what is not JSON or no schema, kUsage for an unsupported keyword.
  explicit SchemaDocument(std::string_view json);
  ~SchemaDocument();
  const SchemaPtr& root() const { return root_; }
  // What "#/..." names. Throws kUsage for a reference to elsewhere, kBadData for one to nothing.
  SchemaPtr target(const std::string& ref);
  // `schema` with its own reference, and those it leads to, merged in: ref is empty.
  SchemaPtr resolved(const SchemaPtr& schema);
  // Both at once, with references resolved. Throws kUsage for two keywords that have no common
  // form.
  SchemaPtr merged(const SchemaPtr& a, const SchemaPtr& b);

 private:
  struct Json;
  SchemaPtr merged(const Schema& a, const Schema& b);
  std::unique_ptr<Json> json_;
  SchemaPtr root_;
  int depth_ = 0;
};

// No value satisfies both; false when that is not plain to see.
bool are_disjoint(const SchemaPtr& a, const SchemaPtr& b, SchemaDocument& document, int depth = 0);

}  // namespace lapidary::grammar
