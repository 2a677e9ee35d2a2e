// Reading a request's JSON: each field with its type and range, each refusal naming the field.
//
// A field that is absent or null is not given. Fields nobody asks for are ignored, as OpenAI does.
// A Fields is one JSON value and where it stands; JSON's own type stays in the .cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/server/api_error.h"

namespace lapidary::server {

class Fields {
 public:
  enum class Kind { kNull, kFlag, kNumber, kText, kArray, kObject };

  // All throw ApiError 400. Here: for what is no JSON object, is not UTF-8, nests deeper than 64,
  // repeats a member or has more than 1024 in one object.
  static Fields parse(std::string_view body);

  Kind kind() const;
  const std::string& where() const { return where_; }
  [[noreturn]] void refuse(const std::string& message) const { refuse_field(where_, message); }

  // Members of an object.
  bool has(const char* name) const { return member(name).has_value(); }
  std::optional<Fields> member(const char* name) const;  // of any kind but null
  std::optional<std::string> text(const char* name) const;
  std::optional<bool> flag(const char* name) const;
  std::optional<int64_t> integer(const char* name, int64_t min, int64_t max) const;
  std::optional<double> number(const char* name, double min, double max) const;
  std::optional<Fields> object(const char* name) const;
  std::optional<std::vector<Fields>> array(const char* name) const;
  std::string json(const char* name) const;  // compact; empty when not given
  // The same, refused when not given.
  std::string need_text(const char* name) const;
  std::vector<Fields> need_array(const char* name) const;

  // This value itself.
  std::string as_text() const;
  int64_t as_integer(int64_t min, int64_t max) const;
  double as_number(double min, double max) const;
  std::vector<Fields> items() const;                            // of an array
  std::vector<std::pair<std::string, Fields>> members() const;  // of an object
  std::string json() const;

 private:
  struct Value;
  Fields(std::shared_ptr<const Value> value, std::string where)
      : value_(std::move(value)), where_(std::move(where)) {}
  Fields need(const char* name) const;

  std::shared_ptr<const Value> value_;
  std::string where_;
};

}  // namespace lapidary::server
