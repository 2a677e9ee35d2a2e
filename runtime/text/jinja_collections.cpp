// Filters over lists and dictionaries. What is a generator in Jinja is a list here.
#include <algorithm>
#include <unordered_map>

#include "formats/error.h"
#include "runtime/text/jinja_filters.h"
#include "runtime/text/jinja_operators.h"
#include "runtime/text/jinja_strings.h"

namespace lapidary::jinja {
namespace {

// What sorting and comparing look at: an attribute, letters in one case unless asked otherwise.
Value sort_key(const Value& v, const Value& attribute, bool case_sensitive) {
  Value key = attribute.is_none() ? v : path_of(v, attribute);
  if (!case_sensitive && key.string()) return Value(python_lower(*key.string()));
  return key;
}

ValueList sorted(ValueList items, const Value& attribute, bool case_sensitive, bool reverse) {
  // Several attributes may be given, separated by commas.
  ValueList attributes = {attribute};
  if (attribute.string()) {
    attributes.clear();
    for (std::string& part : python_split(*attribute.string(), ",", -1))
      attributes.emplace_back(std::move(part));
  }
  std::vector<std::pair<ValueList, Value>> keyed;
  for (Value& item : items) {
    ValueList keys;
    for (const Value& one : attributes) keys.push_back(sort_key(item, one, case_sensitive));
    keyed.emplace_back(std::move(keys), std::move(item));
  }
  const auto less = [](const auto& a, const auto& b) {
    for (size_t i = 0; i < a.first.size(); ++i)
      if (const int order = compare(a.first[i], b.first[i]); order != 0) return order < 0;
    return false;
  };
  // Python keeps equal elements in order when it sorts in reverse, too.
  std::stable_sort(keyed.begin(), keyed.end(),
                   [&](const auto& a, const auto& b) { return reverse ? less(b, a) : less(a, b); });
  for (size_t i = 0; i < items.size(); ++i) items[i] = std::move(keyed[i].second);
  return items;
}

Value filter_sort(const Value& v, const Arguments& a) {
  const Bound bound(a, "sort", {"reverse", "case_sensitive", "attribute"});
  return make_list(
      sorted(elements_of(v), bound.get(2), bound.flag(1, false), bound.flag(0, false)));
}

Value filter_dictsort(const Value& v, const Arguments& a) {
  const Bound bound(a, "dictsort", {"case_sensitive", "by", "reverse"});
  if (!v.dict()) fail(ErrorCode::kBadData, "dictsort: a '{}'", type_name(v));
  const std::string by = bound.text(1, "key");
  if (by != "key" && by != "value") fail(ErrorCode::kBadData, "dictsort: by '{}'", by);
  ValueList items;
  for (const auto& [key, value] : v.dict()->items()) items.push_back(make_list({key, value}, true));
  return make_list(sorted(std::move(items), Value(int64_t{by == "value"}), bound.flag(0, false),
                          bound.flag(2, false)));
}

Value filter_unique(const Value& v, const Arguments& a) {
  const Bound bound(a, "unique", {"case_sensitive", "attribute"});
  ValueList out;
  Dict seen;
  for (const Value& item : elements_of(v)) {
    const Value key = sort_key(item, bound.get(1), bound.flag(0, false));
    if (seen.find(key)) continue;
    seen.set(key, true);
    out.push_back(item);
  }
  return make_list(std::move(out));
}

template <bool kMax>
Value extreme(const Value& v, const Arguments& a) {
  const Bound bound(a, kMax ? "max" : "min", {"case_sensitive", "attribute"});
  Value best = Undefined{"the extreme of nothing"}, best_key;
  bool first = true;
  for (const Value& item : elements_of(v)) {
    const Value key = sort_key(item, bound.get(1), bound.flag(0, false));
    if (first || (kMax ? compare(key, best_key) > 0 : compare(key, best_key) < 0)) {
      best = item;
      best_key = key;
    }
    first = false;
  }
  return best;
}

Value filter_join(const Value& v, const Arguments& a) {
  const Bound bound(a, "join", {"d", "attribute"});
  const std::string separator = to_string(bound.get(0, ""));
  std::string out;
  bool first = true;
  for (const Value& item : elements_of(v)) {
    if (!first) out += separator;
    first = false;
    out += to_string(bound.get(1).is_none() ? item : path_of(item, bound.get(1)));
    check_size(out.size());
  }
  return out;
}

Value filter_sum(const Value& v, const Arguments& a) {
  const Bound bound(a, "sum", {"attribute", "start"});
  Value total = bound.get(1, int64_t{0});
  for (const Value& item : elements_of(v))
    total =
        binary_operation("+", total, bound.get(0).is_none() ? item : path_of(item, bound.get(0)));
  return total;
}

Value filter_map(const Value& v, const Arguments& a) {
  ValueList out;
  if (a.positional.empty()) {
    const Bound bound(a, "map", {"attribute", "default"});
    for (const Value& item : elements_of(v)) {
      Value found = path_of(item, bound.get(0));
      out.push_back(found.is_undefined() && bound.has(1) ? bound.get(1) : std::move(found));
    }
  } else {
    const Arguments rest{{a.positional.begin() + 1, a.positional.end()}, a.named};
    for (const Value& item : elements_of(v))
      out.push_back(apply_filter(to_string(a.positional[0]), item, rest));
  }
  return make_list(std::move(out));
}

// select, reject (kAttribute false) and selectattr, rejectattr.
template <bool kAttribute, bool kKeep>
Value choose(const Value& v, const Arguments& a) {
  constexpr size_t kTest = kAttribute ? 1 : 0;
  if (kAttribute && a.positional.empty())
    fail(ErrorCode::kBadData, "selectattr: needs an attribute");
  Arguments rest{{}, a.named};
  for (size_t i = kTest + 1; i < a.positional.size(); ++i)
    rest.positional.push_back(a.positional[i]);
  ValueList out;
  for (const Value& item : elements_of(v)) {
    const Value seen = kAttribute ? path_of(item, a.positional[0]) : item;
    const bool holds = a.positional.size() > kTest
                           ? apply_test(to_string(a.positional[kTest]), seen, rest)
                           : is_true(seen);
    if (holds == kKeep) out.push_back(item);
  }
  return make_list(std::move(out));
}

Value filter_first(const Value& v, const Arguments&) {
  const ValueList items = elements_of(v);
  return items.empty() ? Value(Undefined{"the first of nothing"}) : items.front();
}

Value filter_last(const Value& v, const Arguments&) {
  const ValueList items = elements_of(v);
  return items.empty() ? Value(Undefined{"the last of nothing"}) : items.back();
}

Value filter_reverse(const Value& v, const Arguments&) {
  if (v.string()) return slice_of(v, None{}, None{}, int64_t{-1});
  ValueList items = elements_of(v);
  std::reverse(items.begin(), items.end());
  return make_list(std::move(items));
}

Value filter_default(const Value& v, const Arguments& a) {
  const Bound bound(a, "default", {"default_value", "boolean"});
  const bool absent = v.is_undefined() || (bound.flag(1, false) && !is_true(v));
  return absent ? bound.get(0, "") : v;
}

Value filter_items(const Value& v, const Arguments&) {
  if (v.is_undefined()) return make_list({});
  if (!v.dict()) fail(ErrorCode::kBadData, "items: a '{}'", type_name(v));
  Arguments none;
  return method_of(v, "items").callable()->call(none);
}

Value filter_batch(const Value& v, const Arguments& a) {
  const Bound bound(a, "batch", {"linecount", "fill_with"});
  const int64_t count = bound.integer(0, 0);
  if (count < 1 || count > 100'000) fail(ErrorCode::kBadData, "batch: of {}", count);
  ValueList out, line;
  for (const Value& item : elements_of(v)) {
    line.push_back(item);
    if (static_cast<int64_t>(line.size()) == count)
      out.push_back(make_list(std::exchange(line, {})));
  }
  if (!line.empty()) {
    if (!bound.get(1).is_none()) line.resize(static_cast<size_t>(count), bound.get(1));
    out.push_back(make_list(std::move(line)));
  }
  return make_list(std::move(out));
}

}  // namespace

FilterFunction find_collection_filter(const std::string& name) {
  static const FilterFunction length = [](const Value& v, const Arguments&) {
    return Value(length_of(v));
  };
  static const std::unordered_map<std::string, FilterFunction> filters = {
      {"batch", filter_batch},
      {"count", length},
      {"d", filter_default},
      {"default", filter_default},
      {"dictsort", filter_dictsort},
      {"first", filter_first},
      {"items", filter_items},
      {"join", filter_join},
      {"last", filter_last},
      {"length", length},
      {"list", [](const Value& v, const Arguments&) { return make_list(elements_of(v)); }},
      {"map", filter_map},
      {"max", extreme<true>},
      {"min", extreme<false>},
      {"reject", choose<false, false>},
      {"rejectattr", choose<true, false>},
      {"reverse", filter_reverse},
      {"select", choose<false, true>},
      {"selectattr", choose<true, true>},
      {"sort", filter_sort},
      {"sum", filter_sum},
      {"unique", filter_unique},
  };
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : found->second;
}

}  // namespace lapidary::jinja
