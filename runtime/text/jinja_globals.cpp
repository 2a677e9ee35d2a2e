// raise_exception and strftime_now are what transformers adds to Jinja's own.
#include "runtime/text/jinja_globals.h"

#include <ctime>

#include "formats/error.h"
#include "runtime/text/jinja_operators.h"

namespace lapidary::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as in Jinja's sandbox

Value range(Arguments& a) {
  const Bound bound(a, "range", {"start", "stop", "step"});
  const int64_t start = bound.has(1) ? bound.integer(0, 0) : 0;
  const int64_t stop = bound.has(1) ? bound.integer(1, 0) : bound.integer(0, 0);
  const int64_t step = bound.integer(2, 1);
  if (step == 0) fail(ErrorCode::kBadData, "range: step 0");
  ValueList items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(items.size()) >= kMaxRange)
      fail(ErrorCode::kBadData, "range: more than {} elements", kMaxRange);
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_list(std::move(items));
}

Value dict(Arguments& a) {
  Dict out;
  for (const Value& source : a.positional) {
    if (!source.dict()) fail(ErrorCode::kBadData, "dict: of a '{}'", type_name(source));
    for (const auto& [key, value] : source.dict()->items()) out.set(key, value);
  }
  for (const auto& [name, value] : a.named) out.set(name, value);
  return make_dict(std::move(out));
}

Value raise(Arguments& a) {
  fail(ErrorCode::kBadData, "{}", to_string(Bound(a, "raise_exception", {"message"}).get(0)));
}

Value strftime_now(Arguments& a) {
  const std::string format = Bound(a, "strftime_now", {"format"}).text(0, "");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char buffer[256];
  return std::string(buffer, std::strftime(buffer, sizeof buffer, format.c_str(), &local));
}

}  // namespace

std::unordered_map<std::string, Value> make_globals(NamespaceRegistry& registry) {
  const auto function = [](const char* name, std::function<Value(Arguments&)> call) {
    return Value(std::make_shared<const Callable>(Callable{name, std::move(call)}));
  };
  const auto make_namespace = [&registry](Arguments& a) {
    auto made = std::make_shared<Namespace>();
    registry.push_back(made);
    const Value initial = dict(a);
    for (const auto& [name, value] : initial.dict()->items())
      made->attributes[to_string(name)] = value;
    return Value(std::move(made));
  };
  return {{"range", function("range", range)},
          {"dict", function("dict", dict)},
          {"namespace", function("namespace", make_namespace)},
          {"raise_exception", function("raise_exception", raise)},
          {"strftime_now", function("strftime_now", strftime_now)}};
}

}  // namespace lapidary::jinja
