// Bounds of numbers as exact decimals, and the small questions that a schema answers about itself.
#include <algorithm>

#include "runtime/grammar/schema.h"

namespace lapidary::grammar {

std::optional<Decimal> parse_decimal(std::string text) {
  int exponent = 0;
  if (const size_t e = text.find('e'); e != std::string::npos) {
    exponent = std::stoi(text.substr(e + 1));
    text.resize(e);
  }
  std::string digits;
  int scale = 0;
  bool in_fraction = false;
  for (const char c : text) {
    if (c == '.') in_fraction = true;
    if (c < '0' || c > '9') continue;
    digits += c;
    scale += in_fraction;
  }
  scale -= exponent;
  for (; scale > 0 && digits.ends_with('0') && digits.size() > 1; --scale) digits.pop_back();
  if (scale < 0 && digits.size() + static_cast<size_t>(-scale) <= 19) {
    digits.append(static_cast<size_t>(-scale), '0');
    scale = 0;
  }
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  if (digits.size() > 18 || scale < 0 || scale > Decimal::kMaxScale) return std::nullopt;
  const int64_t units = std::stoll(digits);
  return Decimal{text.starts_with('-') ? -units : units, scale};
}

bool less(const Decimal& a, const Decimal& b) {
  // Exact: 18 digits times 10^15 fit in 128 bits, which long double's 64-bit mantissa does not.
  __extension__ typedef __int128 Wide;
  Wide left = a.units, right = b.units;
  for (int i = a.scale; i < Decimal::kMaxScale; ++i) left *= 10;
  for (int i = b.scale; i < Decimal::kMaxScale; ++i) right *= 10;
  return left < right;
}

const Property* Schema::find(std::string_view name) const {
  for (const Property& p : properties)
    if (p.name == name) return &p;
  return nullptr;
}
bool Schema::requires_property(std::string_view name) const {
  return std::find(required.begin(), required.end(), name) != required.end();
}

}  // namespace lapidary::grammar
