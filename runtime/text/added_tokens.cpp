// The rules for flags follow `tokenizers`' AddedVocabulary.
#include "runtime/text/added_tokens.h"

#include <utf8proc.h>

#include "formats/utf8.h"

namespace lapidary {
namespace {

// What the regex \w matches: letters, marks, decimal digits, connectors, letter-like symbols and
// joiners (Unicode TR 18, annex C).
bool is_word(char32_t c) {
  if (c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
      (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
      (c >= 0x1F170 && c <= 0x1F189))
    return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

}  // namespace

AddedTokens::AddedTokens(const TokenizerView& view) : view_(view), nodes_(1) {}

uint32_t AddedTokens::child(uint32_t node, unsigned char byte) const {
  uint32_t at = nodes_[node].first_child;
  while (at != 0 && nodes_[at].byte != byte) at = nodes_[at].next_sibling;
  return at;
}

void AddedTokens::insert(std::string_view text, uint32_t id) {
  if (text.empty()) return;
  uint32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t next = node == 0 ? roots_[byte] : child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_.push_back({byte, kNoToken, 0, nodes_[node].first_child});
      (node == 0 ? roots_[byte] : nodes_[node].first_child) = next;
      if (node == 0) nodes_[next].next_sibling = 0;
    }
    node = next;
  }
  nodes_[node].id = id;
}

TextPart AddedTokens::longest_match(std::string_view text, size_t at) const {
  TextPart match{at, at, kNoToken};
  uint32_t node = roots_[static_cast<unsigned char>(text[at])];
  for (size_t end = at + 1; node != 0; ++end) {
    if (nodes_[node].id != kNoToken) match = {at, end, nodes_[node].id};
    if (end == text.size()) break;
    node = child(node, static_cast<unsigned char>(text[end]));
  }
  return match;
}

// Applies single_word (false: no match after all), lstrip and rstrip.
bool AddedTokens::stretch(std::string_view text, size_t previous_end, TextPart& match) const {
  const uint8_t flags = view_.flags(match.id);
  if (flags & kSingleWord) {
    size_t end = match.end;
    if (match.begin > 0 && is_word(previous_code_point(text, match.begin))) return false;
    if (end < text.size() && is_word(next_code_point(text, end))) return false;
  }
  if (flags & kTakesLeft)
    while (match.begin > previous_end) {
      const char32_t c = previous_code_point(text, match.begin);
      if (!is_white_space(c)) break;
      do --match.begin;
      while ((static_cast<unsigned char>(text[match.begin]) & 0xC0) == 0x80);
    }
  if (flags & kTakesRight)
    for (size_t next = match.end; next < text.size(); match.end = next)
      if (!is_white_space(next_code_point(text, next))) break;
  return true;
}

std::vector<TextPart> AddedTokens::split(std::string_view text, bool parse_special) const {
  std::vector<TextPart> parts;
  size_t done = 0;  // everything before is in `parts`
  for (size_t at = 0; at < text.size();) {
    TextPart match = longest_match(text, at);
    if (match.id == kNoToken) {
      ++at;
      continue;
    }
    at = match.end;
    if (!parse_special && (view_.flags(match.id) & kSpecial)) continue;
    // A token before may have swallowed the space that this one starts with.
    if (match.begin < done || !stretch(text, done, match)) continue;
    if (done < match.begin) parts.push_back({done, match.begin, kNoToken});
    parts.push_back(match);
    done = match.end;
  }
  if (done < text.size()) parts.push_back({done, text.size(), kNoToken});
  return parts;
}

}  // namespace lapidary
