// Values of the template language: Python's, as far as templates can tell.
//
// Strings, lists and dictionaries are shared and never change once made, so copies are cheap and
// nothing can contain itself; namespaces are the one exception. Lists and dictionaries know how
// deep they nest and how much they hold, shared parts counted each time, and are refused past a
// limit: so printing and comparing can exhaust neither stack nor memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace lapidary::jinja {

class Value;
using ValueList = std::vector<Value>;

struct Undefined {
  std::string name;  // what was looked up, for messages
};
struct None {};

struct List;
struct Dict;
struct Namespace;
struct Callable;
struct LoopState;

class Value {
 public:
  Value() : data_(Undefined{}) {}
  Value(Undefined u) : data_(std::move(u)) {}
  Value(None n) : data_(n) {}
  Value(bool b) : data_(b) {}
  Value(int64_t i) : data_(i) {}
  Value(double d) : data_(d) {}
  Value(std::string s) : data_(std::make_shared<const std::string>(std::move(s))) {}
  Value(std::string_view s) : Value(std::string(s)) {}
  Value(const char* s) : Value(std::string(s)) {}
  Value(std::shared_ptr<const List> l) : data_(std::move(l)) {}
  Value(std::shared_ptr<const Dict> d) : data_(std::move(d)) {}
  Value(std::shared_ptr<Namespace> n) : data_(std::move(n)) {}
  Value(std::shared_ptr<const Callable> c) : data_(std::move(c)) {}
  Value(std::shared_ptr<LoopState> l) : data_(std::move(l)) {}

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  const std::string* string() const { return pointer<const std::string>(); }
  const List* list() const { return pointer<const List>(); }
  const Dict* dict() const { return pointer<const Dict>(); }
  Namespace* name_space() const { return pointer<Namespace>(); }
  const Callable* callable() const { return pointer<const Callable>(); }
  LoopState* loop() const { return pointer<LoopState>(); }
  const bool* boolean() const { return std::get_if<bool>(&data_); }
  const int64_t* integer() const { return std::get_if<int64_t>(&data_); }
  const double* real() const { return std::get_if<double>(&data_); }
  const Undefined* undefined() const { return std::get_if<Undefined>(&data_); }
  // Python counts booleans as integers.
  bool is_number() const { return boolean() || integer() || real(); }

 private:
  template <class T>
  T* pointer() const {
    const auto* held = std::get_if<std::shared_ptr<T>>(&data_);
    return held ? held->get() : nullptr;
  }
  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
               std::shared_ptr<const Callable>, std::shared_ptr<LoopState>>
      data_;
};

// Texts longer than this are refused, and data that would print as more.
inline constexpr size_t kMaxValueBytes = size_t{64} << 20;

struct Extent {
  int depth = 0;
  size_t bytes = 1;  // about what it prints as
};
Extent extent_of(const Value& v);
// Throws kBadData when a text of `bytes` may not be made.
void check_size(size_t bytes);

struct List {
  ValueList items;
  bool is_tuple = false;
  Extent extent{1, 2};
};

// Keeps the order of insertion. Keys are strings, numbers, booleans or None.
class Dict {
 public:
  void set(Value key, Value value);
  const Value* find(const Value& key) const;
  const std::vector<std::pair<Value, Value>>& items() const { return items_; }
  const Extent& extent() const { return extent_; }

 private:
  std::vector<std::pair<Value, Value>> items_;
  std::unordered_map<std::string, size_t> index_;
  Extent extent_{1, 2};
};

struct Namespace {
  std::unordered_map<std::string, Value> attributes;
};

struct Arguments {
  ValueList positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Callable {
  std::string name;
  std::function<Value(Arguments&)> call;
};

// The `loop` variable.
struct LoopState {
  ValueList items;
  size_t index = 0;
  int64_t depth = 1;
  Value last_changed;  // of loop.changed()
  bool has_changed = false;
};

// Throw kBadData when the data nest too deep or grow too large.
Value make_list(ValueList items, bool is_tuple = false);
Value make_dict(Dict dict);

const char* type_name(const Value& v);  // Python's
bool is_true(const Value& v);
std::string to_string(const Value& v);  // what {{ v }} prints
std::string to_repr(const Value& v);    // what it prints inside a list
std::string repr_of_double(double d);
bool equal(const Value& a, const Value& b);
// Negative, zero or positive. Throws kBadData for types that have no order.
int compare(const Value& a, const Value& b);
bool contains(const Value& container, const Value& item);
double as_double(const Value& number);
int64_t length_of(const Value& v);  // throws kBadData where Python has no len()
// The elements a for loop visits: of a list, a dictionary's keys, a string's characters, nothing
// for undefined. Throws kBadData for others.
ValueList elements_of(const Value& v);

struct JsonStyle {
  int indent = -1;  // -1: one line
  std::string item_separator = ", ", key_separator = ": ";
  bool sort_keys = false, ensure_ascii = false;
};
std::string to_json(const Value& v, const JsonStyle& style);
// From JSON text; objects keep their order. Throws kBadData.
Value from_json(std::string_view text, const std::string& where);

}  // namespace lapidary::jinja
