// Two schemas at once, for allOf and for keywords beside anyOf or $ref.
#include <algorithm>
#include <numeric>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "runtime/grammar/schema.h"

namespace lapidary::grammar {
namespace {

constexpr int kMaxMergeDepth = 64;

template <class T>
void merge_equal(std::optional<T>& into, const std::optional<T>& other, const char* keyword) {
  if (into && other && !(*into == *other))
    fail(ErrorCode::kUsage, "JSON schema: two different values of {} at once are not supported",
         keyword);
  if (other) into = other;
}

int64_t merge_most(int64_t a, int64_t b) { return a < 0 ? b : b < 0 ? a : std::min(a, b); }

void merge_multiples(std::optional<Decimal>& into, const std::optional<Decimal>& other) {
  if (into && other && into->scale == 0 && other->scale == 0) {
    const int64_t divisor = std::gcd(into->units, other->units);
    if (into->units / divisor > 1'000'000'000 || other->units > 1'000'000'000)
      fail(ErrorCode::kUsage, "JSON schema: multipleOf is too large in allOf");
    into->units = into->units / divisor * other->units;
    return;
  }
  merge_equal(into, other, "multipleOf");
}

void merge_bounds(Schema& into, const Schema& other) {
  const auto tighter = [](std::optional<Bound>& a, const std::optional<Bound>& b, bool is_lower) {
    if (!b) return;
    if (!a || (is_lower ? less(a->value, b->value) : less(b->value, a->value)))
      a = b;
    else if (a->value == b->value)
      a->is_open |= b->is_open;
  };
  tighter(into.minimum, other.minimum, true);
  tighter(into.maximum, other.maximum, false);
}

void merge_literals(Schema& into, const Schema& other) {
  if (!other.literals) return;
  if (!into.literals) {
    into.literals = other.literals;
    return;
  }
  std::erase_if(*into.literals, [&](const Literal& mine) {
    return std::none_of(other.literals->begin(), other.literals->end(),
                        [&](const Literal& l) { return l.json == mine.json; });
  });
}

}  // namespace

SchemaPtr SchemaDocument::resolved(const SchemaPtr& schema) {
  if (schema->ref.empty()) return schema;
  if (++depth_ > kMaxMergeDepth)
    fail(ErrorCode::kUsage, "JSON schema: $ref \"{}\" leads to itself or nests too deeply",
         excerpt(schema->ref));
  const SchemaPtr pointed = resolved(target(schema->ref));
  SchemaPtr all = pointed;
  if (!schema->is_plain()) {
    Schema rest = *schema;
    rest.ref.clear();
    all = merged(rest, *pointed);
  }
  --depth_;
  return all;
}

SchemaPtr SchemaDocument::merged(const SchemaPtr& a, const SchemaPtr& b) {
  // Unchanged where one says nothing, so that references stay references.
  if (a->is_plain() && a->ref.empty()) return b;
  if (b->is_plain() && b->ref.empty()) return a;
  if (a == b) return a;
  if (++depth_ > kMaxMergeDepth)
    fail(ErrorCode::kUsage, "JSON schema: allOf, anyOf or $ref nest deeper than {} levels",
         kMaxMergeDepth);
  SchemaPtr both = merged(*resolved(a), *resolved(b));
  --depth_;
  return both;
}

SchemaPtr SchemaDocument::merged(const Schema& a, const Schema& b) {
  auto both = std::make_shared<Schema>(a);
  both->is_never |= b.is_never;
  both->types &= b.types;
  merge_literals(*both, b);
  merge_bounds(*both, b);
  merge_multiples(both->multiple_of, b.multiple_of);
  both->min_length = std::max(a.min_length, b.min_length);
  both->max_length = merge_most(a.max_length, b.max_length);
  merge_equal(both->pattern, b.pattern, "pattern");
  merge_equal(both->format, b.format, "format");

  const auto at = [](const Schema& s, size_t i) {
    return i < s.prefix_items.size() ? s.prefix_items[i] : s.items;
  };
  both->prefix_items.clear();
  for (size_t i = 0; i < std::max(a.prefix_items.size(), b.prefix_items.size()); ++i) {
    const SchemaPtr left = at(a, i), right = at(b, i);
    both->prefix_items.push_back(left && right ? merged(left, right) : left ? left : right);
  }
  both->items = a.items && b.items ? merged(a.items, b.items) : a.items ? a.items : b.items;
  both->min_items = std::max(a.min_items, b.min_items);
  both->max_items = merge_most(a.max_items, b.max_items);

  // A property that only one side lists is, for the other, an additional one.
  const auto other_side = [&](const Property& p, const Schema& other) {
    if (const Property* same = other.find(p.name)) return merged(p.schema, same->schema);
    return other.additional ? merged(p.schema, other.additional) : p.schema;
  };
  both->properties.clear();
  for (const Property& p : a.properties) both->properties.push_back({p.name, other_side(p, b)});
  for (const Property& p : b.properties)
    if (!a.find(p.name)) both->properties.push_back({p.name, other_side(p, a)});
  for (const std::string& name : b.required)
    if (!both->requires_property(name)) both->required.push_back(name);
  both->additional = a.additional && b.additional ? merged(a.additional, b.additional)
                     : a.additional               ? a.additional
                                                  : b.additional;
  if (!b.pattern_properties.empty()) {
    if (!a.pattern_properties.empty())
      fail(ErrorCode::kUsage, "JSON schema: two patternProperties at once are not supported");
    both->pattern_properties = b.pattern_properties;
  }
  if (b.property_names)
    both->property_names =
        a.property_names ? merged(a.property_names, b.property_names) : b.property_names;
  both->min_properties = std::max(a.min_properties, b.min_properties);
  both->max_properties = merge_most(a.max_properties, b.max_properties);

  both->all_of.insert(both->all_of.end(), b.all_of.begin(), b.all_of.end());
  both->alternatives.insert(both->alternatives.end(), b.alternatives.begin(), b.alternatives.end());
  return both;
}

}  // namespace lapidary::grammar
