// Unicode normalization out of utf8proc's parts: its own reordering of combining marks takes
// quadratic time on hostile text, and `tokenizers` normalizes by an older Unicode.
#include "runtime/text/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "formats/error.h"
#include "formats/utf8.h"

namespace lapidary {
namespace {

// Characters that came after Unicode 9 and that later tables decompose, compose or reorder. To
// `tokenizers` they are unassigned: they stay as they are and nothing moves across them.
constexpr std::array<char32_t, 2> kUnassigned[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},
    {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785}, {0x10787, 0x107B0},
    {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11935, 0x11935},
    {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1},
    {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

bool is_unassigned(char32_t c) {
  const auto* range = std::lower_bound(std::begin(kUnassigned), std::end(kUnassigned), c,
                                       [](const auto& r, char32_t x) { return r[1] < x; });
  return range != std::end(kUnassigned) && (*range)[0] <= c;
}

void normalize_part(std::string_view text, bool compatibility, bool compose, std::string& out) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size();) {
    std::array<utf8proc_int32_t, 32> parts;  // the longest decomposition has 18
    int boundary_class = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(next_code_point(text, at)),
                                           parts.data(), parts.size(), options, &boundary_class);
    LAPIDARY_CHECK(n >= 0 && n <= static_cast<utf8proc_ssize_t>(parts.size()));
    points.insert(points.end(), parts.begin(), parts.begin() + n);
  }

  const auto combining = [](utf8proc_int32_t c) {
    return utf8proc_get_property(c)->combining_class;
  };
  for (auto begin = points.begin(); begin != points.end();) {
    if (combining(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, points.end(), [&](auto c) { return combining(c) == 0; });
    std::stable_sort(begin, end, [&](auto a, auto b) { return combining(a) < combining(b); });
    begin = end;
  }

  auto count = static_cast<utf8proc_ssize_t>(points.size());
  if (compose)
    count = utf8proc_normalize_utf32(
        points.data(), count, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  LAPIDARY_CHECK(count >= 0);
  for (utf8proc_ssize_t i = 0; i < count; ++i) append_utf8(static_cast<char32_t>(points[i]), out);
}

}  // namespace

std::string unicode_normalize(std::string_view text, bool compatibility, bool compose) {
  // Below U+0300 nothing composes, and below U+00A0 nothing decomposes either.
  const unsigned char plain_below = compose && !compatibility ? 0xCC : 0x80;
  if (std::all_of(text.begin(), text.end(),
                  [=](char c) { return static_cast<unsigned char>(c) < plain_below; }))
    return std::string(text);

  std::string out;
  out.reserve(text.size());
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    if (!is_unassigned(next_code_point(text, at))) continue;
    normalize_part(text.substr(begin, here - begin), compatibility, compose, out);
    out += text.substr(here, at - here);
    begin = at;
  }
  normalize_part(text.substr(begin), compatibility, compose, out);
  return out;
}

std::string unicode_lowercase(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    append_utf8(c == 0x130 ? U'i' : static_cast<char32_t>(utf8proc_tolower(c)), out);
    // The one letter whose lower case has two code points (SpecialCasing.txt).
    if (c == 0x130) append_utf8(0x307, out);
  }
  return out;
}

}  // namespace lapidary
