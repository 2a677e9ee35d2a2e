// Splitting, with the five behaviours that `tokenizers` gives a match.
#include "runtime/text/pre_tokenizer.h"

#include <algorithm>

#include "formats/error.h"

namespace lapidary {
namespace {

struct Segment {
  size_t begin, end;
  bool is_match;
};

// Matches and the gaps between them, together covering `text`. An inverted pattern matches the
// gaps.
std::vector<Segment> segments_of(std::string_view text, const std::vector<TextRange>& matches,
                                 bool invert) {
  std::vector<Segment> segments;
  size_t at = 0;
  for (const auto& [begin, end] : matches) {
    if (begin != at) segments.push_back({at, begin, invert});
    segments.push_back({begin, end, !invert});
    at = end;
  }
  if (at != text.size()) segments.push_back({at, text.size(), invert});
  return segments;
}

std::vector<TextRange> find_literal(std::string_view text, std::string_view wanted) {
  std::vector<TextRange> matches;
  if (wanted.empty()) return matches;
  for (size_t at = 0; (at = text.find(wanted, at)) != std::string_view::npos; at += wanted.size())
    matches.push_back({at, at + wanted.size()});
  return matches;
}

std::vector<TextRange> join(const std::vector<Segment>& segments, SplitBehavior behavior) {
  std::vector<TextRange> out;
  bool after_match = false;
  switch (behavior) {
    case SplitBehavior::kIsolated:
    case SplitBehavior::kRemoved:
      for (const Segment& s : segments)
        if (behavior == SplitBehavior::kIsolated || !s.is_match) out.push_back({s.begin, s.end});
      break;
    case SplitBehavior::kContiguous:
    case SplitBehavior::kMergedWithPrevious:
      for (const Segment& s : segments) {
        const bool joins = behavior == SplitBehavior::kContiguous ? s.is_match == after_match
                                                                  : s.is_match && !after_match;
        if (joins && !out.empty())
          out.back().end = s.end;
        else
          out.push_back({s.begin, s.end});
        after_match = s.is_match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto s = segments.rbegin(); s != segments.rend(); ++s) {
        if (s->is_match && !after_match && !out.empty())
          out.back().begin = s->begin;
        else
          out.push_back({s->begin, s->end});
        after_match = s->is_match;
      }
      std::reverse(out.begin(), out.end());
      break;
  }
  return out;
}

// A space before every word that has none.
Words with_prefix_space(const Words& words) {
  Words out;
  for (const auto& [begin, end] : words.ranges) {
    const size_t start = out.text.size();
    if (words.text[begin] != ' ') out.text += ' ';
    out.text.append(words.text, begin, end - begin);
    out.ranges.push_back({start, out.text.size()});
  }
  return out;
}

}  // namespace

PreTokenizer::PreTokenizer(const TokenizerView& view) {
  for (const TokenizerStep& step : view.steps()) {
    if (step.kind < StepKind::kSplitString || step.kind >= StepKind::kDecodeReplace) continue;
    if (is_byte_level_ || step.kind > StepKind::kByteLevel)
      fail(ErrorCode::kBadData, "tokenizer tables: pre-tokenizer {} is unknown or after ByteLevel",
           static_cast<uint32_t>(step.kind));
    if (step.kind == StepKind::kByteLevel) {
      is_byte_level_ = true;
      continue;
    }
    const uint32_t behavior = step.flags & kSplitBehaviorMask;
    if (behavior > static_cast<uint32_t>(SplitBehavior::kContiguous))
      fail(ErrorCode::kBadData, "tokenizer tables: unknown split behaviour {}", behavior);
    Step mine{step.kind,
              static_cast<SplitBehavior>(behavior),
              (step.flags & kInvert) != 0,
              view.text(step),
              {}};
    if (step.kind == StepKind::kSplitRegex) mine.regex.emplace_back(mine.text);
    steps_.push_back(std::move(mine));
  }
}

Words PreTokenizer::split(std::string text) const {
  Words words{std::move(text), {}};
  if (!words.text.empty()) words.ranges.push_back({0, words.text.size()});
  for (const Step& step : steps_) {
    if (step.kind == StepKind::kPrefixSpace) {
      words = with_prefix_space(words);
      continue;
    }
    std::vector<TextRange> next;
    for (const auto& [begin, end] : words.ranges) {
      const std::string_view word = std::string_view(words.text).substr(begin, end - begin);
      const auto matches = step.kind == StepKind::kSplitRegex ? step.regex[0].find_all(word)
                                                              : find_literal(word, step.text);
      for (const auto& part : join(segments_of(word, matches, step.invert), step.behavior))
        if (part.begin != part.end) next.push_back({begin + part.begin, begin + part.end});
    }
    words.ranges = std::move(next);
  }
  return words;
}

}  // namespace lapidary
