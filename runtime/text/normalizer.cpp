// Normalizer steps over utf8proc. Unicode normalization is put together from utf8proc's parts
// because its own reordering of combining marks takes quadratic time on hostile text.
#include "runtime/text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "formats/error.h"
#include "formats/utf8.h"

namespace lapidary {
namespace {

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  // `tokenizers` finds an empty pattern once, over the whole text.
  if (from.empty()) return std::string(text.empty() ? text : to);
  size_t at = 0;
  for (size_t hit; (hit = text.find(from, at)) != std::string_view::npos; at = hit + from.size()) {
    out += text.substr(at, hit - at);
    out += to;
  }
  out += text.substr(at);
  return out;
}

std::string replace_matches(std::string_view text, const SplitRegex& regex, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (const auto& [begin, end] : regex.find_all(text)) {
    out += text.substr(at, begin - at);
    out += to;
    at = end;
  }
  out += text.substr(at);
  return out;
}

std::string_view strip_spaces(std::string_view text, uint32_t flags) {
  if (flags & kStripLeft)
    for (size_t at = 0; !text.empty() && is_white_space(next_code_point(text, at)); at = 0)
      text.remove_prefix(at);
  if (flags & kStripRight)
    while (!text.empty()) {
      const char32_t c = previous_code_point(text, text.size());
      if (!is_white_space(c)) break;
      std::string encoded;
      append_utf8(c, encoded);
      text.remove_suffix(encoded.size());
    }
  return text;
}

}  // namespace

std::string unicode_normalize(std::string_view text, bool compatibility, bool compose) {
  // Below U+0300 nothing composes, and below U+00A0 nothing decomposes either.
  const unsigned char plain_below = compose && !compatibility ? 0xCC : 0x80;
  if (std::all_of(text.begin(), text.end(),
                  [=](char c) { return static_cast<unsigned char>(c) < plain_below; }))
    return std::string(text);

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
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < count; ++i) append_utf8(static_cast<char32_t>(points[i]), out);
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

Normalizer::Normalizer(const TokenizerView& view) {
  for (const TokenizerStep& step : view.steps()) {
    if (step.kind > StepKind::kLowercase) continue;
    Step mine{step.kind, step.flags, view.text(step), view.content(step), {}};
    if (step.kind == StepKind::kReplaceRegex) mine.regex.emplace_back(mine.text);
    steps_.push_back(std::move(mine));
  }
}

std::string Normalizer::apply(std::string_view text) const {
  std::string out(text);
  for (const Step& step : steps_) {
    switch (step.kind) {
      case StepKind::kReplaceString:
        out = replace_all(out, step.text, step.content);
        break;
      case StepKind::kReplaceRegex:
        out = replace_matches(out, step.regex[0], step.content);
        break;
      case StepKind::kNfc:
        out = unicode_normalize(out, false, true);
        break;
      case StepKind::kNfd:
        out = unicode_normalize(out, false, false);
        break;
      case StepKind::kNfkc:
        out = unicode_normalize(out, true, true);
        break;
      case StepKind::kNfkd:
        out = unicode_normalize(out, true, false);
        break;
      case StepKind::kPrepend:
        if (!out.empty()) out.insert(0, step.content);
        break;
      case StepKind::kStripSpaces:
        out = std::string(strip_spaces(out, step.flags));
        break;
      case StepKind::kLowercase:
        out = unicode_lowercase(out);
        break;
      default:
        fail(ErrorCode::kBadData, "tokenizer tables: unknown normalizer {}",
             static_cast<uint32_t>(step.kind));
    }
  }
  return out;
}

}  // namespace lapidary
