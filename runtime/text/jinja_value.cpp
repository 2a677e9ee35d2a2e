// Python's truth, order, equality and containment.
#include "runtime/text/jinja_value.h"

#include <algorithm>
#include <cmath>

#include "formats/error.h"
#include "formats/utf8.h"

namespace lapidary::jinja {
namespace {

// A template that nests data deeper has no honest use for it.
constexpr int kMaxDataDepth = 100;

void enclose(Extent& whole, const Extent& part) {
  whole.depth = std::max(whole.depth, part.depth + 1);
  whole.bytes += part.bytes + 2;
  if (whole.depth > kMaxDataDepth)
    fail(ErrorCode::kBadData, "data nest deeper than {} levels", kMaxDataDepth);
  check_size(whole.bytes);
}

// Equal keys give equal texts: 1, 1.0 and True are one key in Python.
std::string key_text(const Value& key) {
  if (key.string()) return "s" + *key.string();
  if (key.is_none()) return "n";
  if (key.boolean()) return "i" + std::to_string(static_cast<int>(*key.boolean()));
  if (key.integer()) return "i" + std::to_string(*key.integer());
  if (key.real()) {
    const double d = *key.real();
    if (d == std::floor(d) && std::abs(d) < 1e15)
      return "i" + std::to_string(static_cast<int64_t>(d));
    return "f" + repr_of_double(d);
  }
  fail(ErrorCode::kBadData, "a value of type '{}' cannot be a key", type_name(key));
}

bool is_integral(const Value& v) { return v.boolean() || v.integer(); }
int64_t as_integer(const Value& v) { return v.integer() ? *v.integer() : *v.boolean(); }

}  // namespace

Extent extent_of(const Value& v) {
  if (v.list()) return v.list()->extent;
  if (v.dict()) return v.dict()->extent();
  return {0, v.string() ? v.string()->size() + 2 : 8};
}

void check_size(size_t bytes) {
  if (bytes > kMaxValueBytes)
    fail(ErrorCode::kBadData, "a value of {} bytes, the limit is {}", bytes, kMaxValueBytes);
}

void Dict::set(Value key, Value value) {
  enclose(extent_, extent_of(key));
  enclose(extent_, extent_of(value));
  const auto [found, is_new] = index_.try_emplace(key_text(key), items_.size());
  if (is_new)
    items_.emplace_back(std::move(key), std::move(value));
  else
    items_[found->second].second = std::move(value);
}

const Value* Dict::find(const Value& key) const {
  if (!key.string() && !key.is_number() && !key.is_none()) return nullptr;
  const auto found = index_.find(key_text(key));
  return found == index_.end() ? nullptr : &items_[found->second].second;
}

Value make_list(ValueList items, bool is_tuple) {
  auto list = std::make_shared<List>();
  for (const Value& item : items) enclose(list->extent, extent_of(item));
  list->items = std::move(items);
  list->is_tuple = is_tuple;
  return Value(std::shared_ptr<const List>(std::move(list)));
}

Value make_dict(Dict dict) { return Value(std::make_shared<const Dict>(std::move(dict))); }

const char* type_name(const Value& v) {
  if (v.is_undefined()) return "Undefined";
  if (v.is_none()) return "NoneType";
  if (v.boolean()) return "bool";
  if (v.integer()) return "int";
  if (v.real()) return "float";
  if (v.string()) return "str";
  if (v.list()) return v.list()->is_tuple ? "tuple" : "list";
  if (v.dict()) return "dict";
  if (v.name_space()) return "Namespace";
  return v.loop() ? "LoopContext" : "function";
}

bool is_true(const Value& v) {
  if (v.is_undefined() || v.is_none()) return false;
  if (v.boolean()) return *v.boolean();
  if (v.integer()) return *v.integer() != 0;
  if (v.real()) return *v.real() != 0;
  if (v.string()) return !v.string()->empty();
  if (v.list()) return !v.list()->items.empty();
  if (v.dict()) return !v.dict()->items().empty();
  return true;
}

double as_double(const Value& v) {
  return v.real() ? *v.real() : static_cast<double>(as_integer(v));
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number())
    return is_integral(a) && is_integral(b) ? as_integer(a) == as_integer(b)
                                            : as_double(a) == as_double(b);
  if (a.string() && b.string()) return *a.string() == *b.string();
  if (a.list() && b.list()) {
    const auto &x = a.list()->items, &y = b.list()->items;
    if (a.list()->is_tuple != b.list()->is_tuple || x.size() != y.size()) return false;
    for (size_t i = 0; i < x.size(); ++i)
      if (!equal(x[i], y[i])) return false;
    return true;
  }
  if (a.dict() && b.dict()) {
    if (a.dict()->items().size() != b.dict()->items().size()) return false;
    for (const auto& [key, value] : a.dict()->items()) {
      const Value* other = b.dict()->find(key);
      if (!other || !equal(value, *other)) return false;
    }
    return true;
  }
  if (a.name_space() || b.name_space()) return a.name_space() == b.name_space();
  if (a.callable() || b.callable()) return a.callable() == b.callable();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (is_integral(a) && is_integral(b))
      return (as_integer(a) > as_integer(b)) - (as_integer(a) < as_integer(b));
    return (as_double(a) > as_double(b)) - (as_double(a) < as_double(b));
  }
  // The order of UTF-8 bytes is that of code points.
  if (a.string() && b.string()) return a.string()->compare(*b.string());
  if (a.list() && b.list() && a.list()->is_tuple == b.list()->is_tuple) {
    const auto &x = a.list()->items, &y = b.list()->items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!equal(x[i], y[i])) return compare(x[i], y[i]);
    return (x.size() > y.size()) - (x.size() < y.size());
  }
  fail(ErrorCode::kBadData, "'{}' and '{}' have no order", type_name(a), type_name(b));
}

bool contains(const Value& container, const Value& item) {
  if (container.string()) {
    if (!item.string())
      fail(ErrorCode::kBadData, "'in' looks for a '{}' in a string", type_name(item));
    return container.string()->find(*item.string()) != std::string::npos;
  }
  if (container.dict()) return container.dict()->find(item) != nullptr;
  if (container.list()) {
    for (const Value& element : container.list()->items)
      if (equal(element, item)) return true;
    return false;
  }
  if (container.is_undefined()) return false;
  fail(ErrorCode::kBadData, "'in' needs a container, found '{}'", type_name(container));
}

int64_t length_of(const Value& v) {
  if (v.is_undefined()) return 0;
  if (v.string()) return static_cast<int64_t>(count_code_points(*v.string()));
  if (v.list()) return static_cast<int64_t>(v.list()->items.size());
  if (v.dict()) return static_cast<int64_t>(v.dict()->items().size());
  if (v.loop()) return static_cast<int64_t>(v.loop()->items.size());
  fail(ErrorCode::kBadData, "a value of type '{}' has no length", type_name(v));
}

ValueList elements_of(const Value& v) {
  ValueList out;
  if (v.list()) return v.list()->items;
  if (v.dict()) {
    for (const auto& item : v.dict()->items()) out.push_back(item.first);
  } else if (v.string()) {
    for (size_t at = 0; at < v.string()->size();) {
      const size_t begin = at;
      next_code_point(*v.string(), at);
      out.emplace_back(v.string()->substr(begin, at - begin));
    }
  } else if (!v.is_undefined()) {
    fail(ErrorCode::kBadData, "'{}' is not iterable", type_name(v));
  }
  return out;
}

}  // namespace lapidary::jinja
