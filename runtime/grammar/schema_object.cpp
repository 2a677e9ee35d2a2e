// Objects: properties in the order of the schema, those that are not required may be left out.
//
// Place (i, c): properties before i are dealt with, and c members were written. c stops counting at
// `cap`, which is 1 (is a comma due?) unless minProperties or maxProperties ask for more.
#include <algorithm>

#include "formats/error.h"
#include "runtime/grammar/schema_network.h"

namespace lapidary::grammar {
namespace {

constexpr int64_t kMaxCounted = 1000, kMaxPlaces = 100'000;

const SchemaPtr& anything() {
  static const SchemaPtr schema = std::make_shared<Schema>();
  return schema;
}

// The members that a schema lists, and what other ones may be.
struct Members {
  std::vector<Property> listed;
  std::vector<bool> is_required;
  SchemaPtr extra_key, extra;  // a null key: any that is not listed; a null extra: none

  Members(const Schema& s, bool is_sorted) {
    const bool is_closed = s.additional ? s.additional->is_never
                                        : !s.properties.empty() || !s.pattern_properties.empty();
    if (!is_closed) extra = s.additional ? s.additional : anything();
    extra_key = s.property_names;
    if (!s.pattern_properties.empty()) {
      if (s.pattern_properties.size() > 1 || !s.properties.empty() || extra || s.property_names)
        fail(ErrorCode::kUsage,
             "JSON schema: patternProperties is supported with one pattern and without properties, "
             "additionalProperties and propertyNames");
      const auto key = std::make_shared<Schema>();
      key->pattern = s.pattern_properties[0].name;
      extra_key = key;
      extra = s.pattern_properties[0].schema;
    }
    if (s.property_names && !s.properties.empty())
      fail(ErrorCode::kUsage, "JSON schema: propertyNames beside properties is not supported");
    listed = s.properties;
    for (const std::string& name : s.required) {
      if (s.find(name)) continue;
      if (extra_key)
        fail(ErrorCode::kUsage,
             "JSON schema: required property \"{}\" must be listed in properties beside "
             "propertyNames or patternProperties",
             name);
      listed.push_back({name, s.additional ? s.additional : anything()});
    }
    if (is_sorted)
      std::ranges::stable_sort(listed, {}, [](const Property& p) { return lower_case(p.name); });
    for (const Property& p : listed) is_required.push_back(s.requires_property(p.name));
  }
  int64_t n() const { return static_cast<int64_t>(listed.size()); }
  int64_t n_required() const { return std::count(is_required.begin(), is_required.end(), true); }
};

}  // namespace

// `"key": value`, from the start of the key.
Fragment SchemaCompiler::member(Fragment key, const SchemaPtr& value, bool is_repeated) {
  const NodeId colon = space_after(net_.text_after(key.end, ":"));
  const Fragment v = is_repeated ? net_.call_of(entry(value)) : compile(value);
  net_.skip(colon, v.start);
  return {key.start, v.end};
}

Fragment SchemaCompiler::object(const Schema& s) {
  const Members members(s, notation_.is_gemma());
  const int64_t n = members.n();
  const bool counts = s.min_properties > 1 || s.max_properties >= 0;
  if (s.max_properties >= 0 && std::max(members.n_required(), s.min_properties) > s.max_properties)
    return nothing();
  const int64_t cap = counts ? std::max<int64_t>({1, s.min_properties, s.max_properties}) : 1;
  if (cap > kMaxCounted || (n + 1) * cap > kMaxPlaces)
    fail(ErrorCode::kUsage,
         "JSON schema: minProperties or maxProperties is {}; supported are {}, and {} divided by "
         "the number of properties",
         cap, kMaxCounted, kMaxPlaces);

  const Fragment all{net_.add_node(), net_.add_node()};
  const NodeId open = net_.text_after(all.start, "{");
  const NodeId before_close = net_.add_node();
  net_.skip(net_.text_after(line_after(before_close), "}"), all.end);
  if (members.n_required() == 0 && s.min_properties == 0)
    net_.skip(net_.text_after(open, "}"), all.end);

  const auto grid = [&] {
    std::vector<NodeId> nodes(static_cast<size_t>((n + 1) * (cap + 1)));
    for (NodeId& node : nodes) node = net_.add_node();
    return nodes;
  };
  const std::vector<NodeId> at = grid(), behind_comma = grid();
  const auto place = [&](int64_t i, int64_t c) { return static_cast<size_t>(i * (cap + 1) + c); };
  const auto may_add = [&](int64_t c) { return s.max_properties < 0 || c < s.max_properties; };
  net_.skip(line_after(open), at[place(0, 0)]);

  bool rest_is_optional = true;
  for (int64_t i = n; i >= 0; --i) {
    const bool is_extra = i == n;
    const Property member_i =
        is_extra ? Property{{}, members.extra} : members.listed[static_cast<size_t>(i)];
    const bool is_required = !is_extra && members.is_required[static_cast<size_t>(i)];
    rest_is_optional &= !is_required;
    // One copy of the member for each count behind it.
    std::vector<NodeId> starts(static_cast<size_t>(cap) + 1, kReturnNode);
    for (int64_t c = 0; member_i.schema && c <= cap; ++c) {
      if (!may_add(c)) continue;
      const int64_t next = std::min(c + 1, cap);
      NodeId& start = starts[static_cast<size_t>(next)];
      if (start == kReturnNode) {
        const Fragment key = is_extra ? extra_key(members.extra_key, members.listed)
                                      : net_.text(key_text(member_i.name, notation_));
        const Fragment whole = member(key, member_i.schema, cap > 1);
        start = whole.start;
        net_.skip(whole.end, at[place(is_extra ? n : i + 1, next)]);
      }
      net_.skip(c == 0 ? at[place(i, 0)] : behind_comma[place(i, c)], start);
    }
    for (int64_t c = 0; c <= cap; ++c) {
      if (c > 0 && may_add(c)) net_.skip(comma_after(at[place(i, c)]), behind_comma[place(i, c)]);
      if (c > 0 && c >= s.min_properties && rest_is_optional)
        net_.skip(at[place(i, c)], before_close);
      if (is_extra || is_required) continue;
      net_.skip(behind_comma[place(i, c)], behind_comma[place(i + 1, c)]);
      if (c == 0) net_.skip(at[place(i, 0)], at[place(i + 1, 0)]);
    }
  }
  return all;
}

Fragment SchemaCompiler::extra_key(const SchemaPtr& schema, const std::vector<Property>& listed) {
  if (!schema) return net_.call_of(scalars_.other_key(listed, notation_));
  const auto text = std::make_shared<Schema>();
  text->types = kString;
  return compile(document_.merged(text, schema));
}

}  // namespace lapidary::grammar
