// One visitor per kind of value; everything else is a message.
#include "convert/gguf_keys.h"

#include <cmath>

#include "formats/error.h"
#include "formats/json_guard.h"

namespace lapidary {
namespace {

template <class T>
std::optional<int> whole(const T& value) {
  if constexpr (std::is_integral_v<T>) {
    if constexpr (std::is_signed_v<T>)
      if (value < 0) return std::nullopt;
    if (static_cast<uint64_t>(value) > INT32_MAX) return std::nullopt;
    return static_cast<int>(value);
  } else {
    return std::nullopt;
  }
}

template <class T>
std::optional<std::vector<int>> whole(const std::vector<T>& values) {
  std::vector<int> out;
  for (const auto& value : values) {
    const std::optional<int> n = whole<T>(value);
    if (!n) return std::nullopt;
    out.push_back(*n);
  }
  return out;
}

template <class T>
constexpr bool kIsVector = false;
template <class T>
constexpr bool kIsVector<std::vector<T>> = true;

}  // namespace

const GgufValue* GgufKeys::find(std::string_view key, bool must_be_there) {
  std::string whole_key = prefix_ + std::string(key);
  const GgufValue* value = file_.find(whole_key);
  if (!value && must_be_there)
    fail(ErrorCode::kBadData, "key {} is missing; is this a whole language model?", whole_key);
  read_.insert(std::move(whole_key));
  return value;
}

bool GgufKeys::has(std::string_view key) { return find(key, false) != nullptr; }

int GgufKeys::size(std::string_view key, std::optional<int> fallback) {
  const GgufValue* value = find(key, !fallback);
  if (!value) return *fallback;
  const std::optional<int> n = std::visit(
      [](const auto& v) -> std::optional<int> {
        if constexpr (kIsVector<std::decay_t<decltype(v)>>)
          return std::nullopt;
        else
          return whole(v);
      },
      *value);
  if (!n) wrong(key, "a number from 0 to 2147483647");
  return *n;
}

double GgufKeys::real(std::string_view key, std::optional<double> fallback) {
  const GgufValue* value = find(key, !fallback);
  if (!value) return *fallback;
  const auto* f = std::get_if<float>(value);
  const auto* d = std::get_if<double>(value);
  const double x = f ? *f : d ? *d : std::nan("");
  if (!std::isfinite(x)) wrong(key, "a finite number");
  return x;
}

std::string GgufKeys::text(std::string_view key, const std::string& fallback) {
  const GgufValue* value = find(key, false);
  if (!value) return fallback;
  const auto* text = std::get_if<std::string>(value);
  if (!text) wrong(key, "a text");
  return *text;
}

std::vector<int> GgufKeys::per_layer(std::string_view key, int n_layers,
                                     std::optional<int> fallback) {
  const GgufValue* value = find(key, !fallback);
  const auto n = static_cast<size_t>(n_layers);
  if (!value) return std::vector<int>(n, *fallback);
  const std::optional<std::vector<int>> numbers = std::visit(
      [&](const auto& v) -> std::optional<std::vector<int>> {
        if constexpr (kIsVector<std::decay_t<decltype(v)>>) {
          return whole(v);
        } else {
          const std::optional<int> one = whole(v);
          return one ? std::optional(std::vector<int>(n, *one)) : std::nullopt;
        }
      },
      *value);
  if (!numbers || numbers->size() != n)
    wrong(key, fmt::format("a number from 0 on, or {} of them", n_layers));
  return *numbers;
}

void GgufKeys::ignore(std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) read_.insert(prefix_ + std::string(key));
}

void GgufKeys::finish() const {
  for (const GgufPair& pair : file_.pairs())
    if (pair.key.starts_with(prefix_) && !read_.contains(pair.key))
      fail(ErrorCode::kBadData,
           "key {} is not known and may change what the model computes; convert the Hugging Face "
           "folder instead",
           excerpt(pair.key));
}

void GgufKeys::wrong(std::string_view key, std::string_view expected) const {
  fail(ErrorCode::kBadData, "key {}{}: expected {}", prefix_, key, expected);
}

}  // namespace lapidary
