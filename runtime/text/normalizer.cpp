// One pass over the text for each step.
#include "runtime/text/normalizer.h"

#include "formats/error.h"
#include "formats/utf8.h"
#include "runtime/text/unicode_forms.h"

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
