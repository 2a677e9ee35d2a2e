// Numbers: any, or between bounds and in steps, as automata over their digits.
//
// A number with f digits behind the point is an integer of units 10^-f with a point in it, so
// bounds and multipleOf become bounds and a divisor of that integer, exactly. One network per f; a
// node is (digits left, remainder so far, still equal to the lower bound?, to the upper?).
#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <tuple>

#include "formats/error.h"
#include "runtime/grammar/schema_network.h"
#include "runtime/grammar/spelling.h"

namespace lapidary::grammar {
namespace {

constexpr int kMaxDigits =
    18;  // of an integer: fits int64_t, and a double reads all bounds exactly
constexpr int kBoundedDigits = 15;   // in all, when a number with a fraction has bounds
constexpr int kBoundedFraction = 6;  // digits behind the point then, unless the bounds have more
constexpr int64_t kMaxDivisor = 2000;

// Unbounded: 16 digits on each side are all that a double holds; the exponent keeps it finite.
constexpr const char* kAnyNumber =
    "-?(?:0|[1-9][0-9]{0,15})(?:\\.[0-9]{1,16})?(?:[eE][+-]?[0-9]{1,2})?";
constexpr const char* kAnyInteger = "0|-?[1-9][0-9]{0,17}";

int64_t power_of_10(int n) {
  int64_t p = 1;
  for (; n > 0; --n) p *= 10;
  return p;
}
int count_digits(int64_t value) {
  int n = 1;
  for (; value >= 10; value /= 10) ++n;
  return n;
}

// Whole numbers of one sign between two bounds, with a point before the last `fraction` digits.
class Digits {
 public:
  Digits(NetworkBuilder& net, int fraction, int64_t divisor, NodeId end)
      : net_(net), fraction_(fraction), divisor_(divisor), end_(end) {}

  // 0 <= low <= high
  void add(NodeId start, int64_t low, int64_t high) {
    for (int length = std::max(fraction_ + 1, count_digits(low));
         length <= std::max(fraction_ + 1, count_digits(high)); ++length) {
      // No leading zeros but one before the point.
      const int64_t least = length > fraction_ + 1 ? power_of_10(length - 1) : 0;
      low_ = std::max(low, least);
      high_ = std::min(high, power_of_10(length) - 1);
      if (low_ > high_) continue;
      tight_.clear();
      net_.skip(start, node(length, 0, true, true));
    }
  }

 private:
  static int digit(int64_t value, int position) {
    return static_cast<int>(value / power_of_10(position) % 10);
  }

  NodeId node(int left, int64_t remainder, bool at_low, bool at_high) {
    if (left == 0) return remainder == 0 ? end_ : dead();
    auto& known = at_low || at_high ? tight_ : loose_;
    const auto [found, is_new] = known.try_emplace({left, remainder, at_low, at_high}, 0);
    if (!is_new) return found->second;
    const NodeId entry = net_.add_node();
    known[{left, remainder, at_low, at_high}] = entry;
    const NodeId from = left == fraction_ ? net_.text_after(entry, ".") : entry;
    const int first = at_low ? digit(low_, left - 1) : 0;
    const int last = at_high ? digit(high_, left - 1) : 9;
    for (int d = first; d <= last; ++d) {
      const auto byte = static_cast<uint8_t>('0' + d);
      net_.edge(from, byte, byte,
                node(left - 1, (remainder * 10 + d) % divisor_, at_low && d == first,
                     at_high && d == last));
    }
    return entry;
  }
  NodeId dead() {
    if (dead_ == kReturnNode) dead_ = net_.add_node();
    return dead_;
  }

  NetworkBuilder& net_;
  int fraction_;
  int64_t divisor_;
  NodeId end_, dead_ = kReturnNode;
  int64_t low_ = 0, high_ = 0;
  std::map<std::tuple<int, int64_t, bool, bool>, NodeId> tight_, loose_;
};

// The first whole number of units 10^-f at or above `d`, plus one if `d` itself is out; capped.
int64_t scaled(const Bound& bound, int f, bool is_lower) {
  __extension__ typedef __int128 Wide;
  Wide value = bound.value.units;
  bool is_exact = true;
  for (int i = bound.value.scale; i < f; ++i) value *= 10;
  if (bound.value.scale > f) {
    const Wide divisor = power_of_10(bound.value.scale - f);
    const Wide quotient = value / divisor;
    is_exact = quotient * divisor == value;
    // Division goes towards zero; the lower bound wants up, the upper one down.
    const bool up = is_lower && !is_exact && value > 0, down = !is_lower && !is_exact && value < 0;
    value = quotient + (up ? 1 : 0) - (down ? 1 : 0);
  }
  if (bound.is_open && is_exact) value += is_lower ? 1 : -1;
  const Wide cap = power_of_10(kMaxDigits);
  return static_cast<int64_t>(std::clamp(value, -cap, cap));
}

// What values with f digits behind the point must be multiples of, in their units; 0: none.
int64_t divisor_at(const std::optional<Decimal>& multiple, int f) {
  if (!multiple) return 1;
  if (f > multiple->scale) return 0;
  const int64_t common = std::gcd(multiple->units, power_of_10(multiple->scale - f));
  const int64_t divisor = multiple->units / common;
  if (divisor > kMaxDivisor)
    fail(ErrorCode::kUsage, "JSON schema: multipleOf is supported up to {}, not {}", kMaxDivisor,
         divisor);
  return divisor;
}

std::string describe(const std::optional<Bound>& bound) {
  if (!bound) return "-";
  return std::to_string(bound->value.units) + "e-" + std::to_string(bound->value.scale) +
         (bound->is_open ? "!" : "");
}

}  // namespace

NodeId ScalarNetworks::number(const Schema& s, bool only_integers) {
  const std::string multiple =
      s.multiple_of ? describe(Bound{*s.multiple_of, false}) : std::string("-");
  NodeId& entry = known(std::string(only_integers ? "integer " : "number ") + describe(s.minimum) +
                        " " + describe(s.maximum) + " " + multiple);
  if (entry != kReturnNode) return entry;
  const NodeId start = entry = net_.add_node();
  const NodeId end = net_.add_node();
  net_.mark_return(end);
  if (!s.has_number_keywords()) {
    const Fragment any =
        spell(compile_regex(only_integers ? kAnyInteger : kAnyNumber, Anchoring::kWhole),
              Spelling::kText, net_);
    net_.skip(start, any.start);
    net_.skip(any.end, end);
    return start;
  }
  int most = 0;  // digits behind the point
  if (!only_integers) {
    most = kBoundedFraction;
    if (s.minimum) most = std::max(most, s.minimum->value.scale);
    if (s.maximum) most = std::max(most, s.maximum->value.scale);
    if (s.multiple_of) most = s.multiple_of->scale;
  }
  const NodeId minus = net_.text_after(start, "-");
  for (int f = 0; f <= most; ++f) {
    const int64_t divisor = divisor_at(s.multiple_of, f);
    if (divisor == 0) continue;
    const int64_t cap =
        power_of_10(only_integers || f > kBoundedDigits ? kMaxDigits
                                                        : std::max(kBoundedDigits, f + 1)) -
        1;
    const int64_t low = s.minimum ? std::max(scaled(*s.minimum, f, true), -cap) : -cap;
    const int64_t high = s.maximum ? std::min(scaled(*s.maximum, f, false), cap) : cap;
    Digits digits(net_, f, divisor, end);
    if (high >= 0 && low <= high) digits.add(start, std::max<int64_t>(low, 0), high);
    if (low < 0 && low <= high) digits.add(minus, std::max<int64_t>(-high, 1), -low);
  }
  return start;
}

}  // namespace lapidary::grammar
