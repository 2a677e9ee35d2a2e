// Whether two alternatives of oneOf can be told apart, so that any of them may be written as anyOf.
#include <algorithm>

#include "runtime/grammar/schema.h"

namespace lapidary::grammar {
namespace {

constexpr int kMaxLooks = 4;  // levels of properties to look into

bool has_common_literal(const Schema& a, const Schema& b) {
  return std::any_of(a.literals->begin(), a.literals->end(), [&](const Literal& mine) {
    return std::any_of(b.literals->begin(), b.literals->end(),
                       [&](const Literal& l) { return l.json == mine.json; });
  });
}

// The texts that are written for `s` never hold `name`.
bool never_writes(const Schema& s, std::string_view name) {
  const bool is_closed = s.additional ? s.additional->is_never : !s.properties.empty();
  return is_closed && s.pattern_properties.empty() && !s.find(name) && !s.requires_property(name);
}

bool requires_what_is_never_written(const Schema& a, const Schema& b) {
  return std::any_of(a.required.begin(), a.required.end(),
                     [&](const std::string& name) { return never_writes(b, name); });
}

}  // namespace

bool are_disjoint(const SchemaPtr& first, const SchemaPtr& second, SchemaDocument& document,
                  int depth) {
  const SchemaPtr a_ptr = document.resolved(first), b_ptr = document.resolved(second);
  const Schema& a = *a_ptr;
  const Schema& b = *b_ptr;
  if (a.is_never || b.is_never) return true;
  if (!a.all_of.empty() || !b.all_of.empty()) return false;
  // One option of the other side after another.
  for (const auto& [mixed, other] : {std::pair(&a, &b_ptr), std::pair(&b, &a_ptr)})
    for (const Alternatives& list : mixed->alternatives)
      if (depth < kMaxLooks &&
          std::all_of(list.options.begin(), list.options.end(), [&](const SchemaPtr& option) {
            return are_disjoint(option, *other, document, depth + 1);
          }))
        return true;
  if (a.literals && b.literals) return !has_common_literal(a, b);
  const auto types = [](const Schema& s) {
    if (!s.literals) return s.types;
    uint8_t bits = 0;
    for (const Literal& l : *s.literals)
      bits |= l.type & (s.types | (s.types & kInteger ? kFraction : 0));
    return bits;
  };
  const uint8_t common = types(a) & types(b);
  if (common == 0) return true;
  if (common != kObject || depth >= kMaxLooks) return false;
  if (requires_what_is_never_written(a, b) && requires_what_is_never_written(b, a)) return true;
  return std::any_of(a.required.begin(), a.required.end(), [&](const std::string& name) {
    if (!b.requires_property(name)) return false;
    const Property* mine = a.find(name);
    const Property* theirs = b.find(name);
    return mine && theirs && are_disjoint(mine->schema, theirs->schema, document, depth + 1);
  });
}

}  // namespace lapidary::grammar
