// Sorting the tokens by bytes puts the trie into walking order; neighbours share their beginnings.
#include "runtime/grammar/vocabulary.h"

#include <algorithm>

#include "formats/error.h"

namespace lapidary::grammar {
namespace {

constexpr size_t kMaxTokenBytes = 255;  // TrieNode::depth

bool is_text(std::string_view bytes) {
  return !bytes.empty() && bytes.size() <= kMaxTokenBytes &&
         std::none_of(bytes.begin(), bytes.end(),
                      [](char c) { return static_cast<uint8_t>(c) >= SpecialTokens::kFirst; });
}

// The first eight bytes as a number that sorts as they do: most comparisons end there.
uint64_t first_bytes(std::string_view bytes) {
  uint64_t key = 0;
  for (size_t i = 0; i < 8; ++i)
    key = key << 8 | (i < bytes.size() ? static_cast<uint8_t>(bytes[i]) : 0);
  return key;
}

}  // namespace

Vocabulary::Vocabulary(const Tokenizer& tokenizer) {
  const int64_t n = tokenizer.vocab_size();
  first_byte_.reserve(static_cast<size_t>(n) + 1);
  first_byte_.push_back(0);
  is_special_.assign(static_cast<size_t>(n), false);
  for (int32_t id = 0; id < n; ++id) {
    if (tokenizer.is_special(id)) {
      is_special_[static_cast<size_t>(id)] = true;
      specials_.push_back(id);
      special_ids_.emplace(tokenizer.piece(id), id);
    } else {
      text_ += tokenizer.token_bytes(id);
    }
    first_byte_.push_back(static_cast<uint32_t>(text_.size()));
  }
  build_trie();
}

void Vocabulary::build_trie() {
  struct Item {
    uint64_t key;
    int32_t id;
  };
  std::vector<Item> items;
  for (int32_t id = 0; id < size(); ++id) {
    const std::string_view text = bytes(id);
    if (!is_text(text)) continue;
    items.push_back({first_bytes(text), id});
    if (text.size() == 1) single_bytes_.set(static_cast<uint8_t>(text[0]));
  }
  std::sort(items.begin(), items.end(), [this](const Item& a, const Item& b) {
    if (a.key != b.key) return a.key < b.key;
    const int order = bytes(a.id).compare(bytes(b.id));
    return order != 0 ? order < 0 : a.id < b.id;
  });

  std::vector<uint32_t> path;  // nodes from the root to the last token
  std::string_view last;
  const auto close = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back())
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
  };
  for (const Item& item : items) {
    const std::string_view text = bytes(item.id);
    const size_t limit = std::min(text.size(), last.size());
    size_t common = 0;
    while (common < limit && text[common] == last[common]) ++common;
    close(common);
    for (size_t i = common; i < text.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({0, static_cast<uint32_t>(tokens_.size()), static_cast<uint8_t>(text[i]),
                        static_cast<uint8_t>(i + 1)});
    }
    tokens_.push_back(item.id);
    last = text;
  }
  close(0);
  nodes_.push_back(
      {static_cast<uint32_t>(nodes_.size()) + 1, static_cast<uint32_t>(tokens_.size()), 0, 0});
}

std::optional<int32_t> Vocabulary::special(std::string_view text) const {
  const auto found = special_ids_.find(std::string(text));
  return found == special_ids_.end() ? std::nullopt : std::optional(found->second);
}

int32_t Vocabulary::longest_prefix(std::string_view text) const {
  int32_t best = -1;
  uint32_t at = 0, end = n_nodes();
  for (const char c : text) {
    while (at < end && nodes_[at].byte != static_cast<uint8_t>(c)) at = nodes_[at].end;
    if (at >= end) break;
    if (nodes_[at].first_token < nodes_[at + 1].first_token) best = tokens_[nodes_[at].first_token];
    end = nodes_[at].end;
    ++at;
  }
  return best;
}

size_t Vocabulary::memory_bytes() const {
  return text_.size() + first_byte_.size() * sizeof(uint32_t) + nodes_.size() * sizeof(TrieNode) +
         tokens_.size() * sizeof(int32_t);
}

uint8_t SpecialTokens::byte_for(int32_t id) {
  const auto found = std::find(ids_.begin(), ids_.end(), id);
  if (found == ids_.end()) {
    if (ids_.size() == kAnyOther - kFirst)
      fail(ErrorCode::kUsage, "the grammar uses more than {} special tokens", kAnyOther - kFirst);
    ids_.push_back(id);
    return static_cast<uint8_t>(kFirst + ids_.size() - 1);
  }
  return static_cast<uint8_t>(kFirst + (found - ids_.begin()));
}

uint8_t SpecialTokens::byte_of(int32_t id) const {
  const auto found = std::find(ids_.begin(), ids_.end(), id);
  return found == ids_.end() ? kAnyOther : static_cast<uint8_t>(kFirst + (found - ids_.begin()));
}

}  // namespace lapidary::grammar
