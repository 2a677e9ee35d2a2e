// What prompts have in common is computed once: K and V of earlier requests' tokens, page by page.
//
// A tree of pages of 64 tokens, one for each adapter: a node is a page behind the pages above it,
// and its K and V are the same for everybody who says these tokens. Each node keeps the two parts
// that Sequence gives: the lasting one, which every longer prompt needs, and the near one (windows,
// tails), which only a prompt that leaves the tree soon behind it needs. So a prefix may end at any
// page whose last few neighbours still have their near parts, and a window's worth of them is all
// that the end of a prefix costs on sliding layers.
//
// Under pressure what was not used for longest goes first: near parts, and nodes without children.
// Taking pages out of here gives the same bits as computing them. One thread at a time.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <span>

#include "runtime/adapter.h"
#include "runtime/kv_cache.h"

namespace lapidary {

class PrefixCache {
 public:
  using AdapterRef = std::shared_ptr<const Adapter>;
  explicit PrefixCache(uint64_t max_bytes);
  ~PrefixCache();

  // Tokens of the longest usable prefix, a multiple of 64 and fewer than there are; counts as use.
  // `like`: any sequence of the model and KV options at hand.
  int64_t find(const AdapterRef& adapter, std::span<const int32_t> tokens, const Sequence& like);
  // Brings an empty sequence to that prefix; returns its length.
  int64_t restore(const AdapterRef& adapter, std::span<const int32_t> tokens, Sequence& sequence);
  // Keeps the page of a sequence that begins with `tokens`, if the pages before it are here.
  void keep(const AdapterRef& adapter, std::span<const int32_t> tokens, int64_t page,
            const Sequence& sequence);
  uint64_t bytes() const { return bytes_; }
  // Lets go until at most so many bytes are held; also the limit from now on, below max_bytes.
  void limit(uint64_t bytes);

 private:
  using PageTokens = std::array<int32_t, kPageTokens>;
  struct Node;
  static PageTokens page_tokens(std::span<const int32_t> tokens, int64_t page);
  std::vector<Node*> path(const AdapterRef& adapter, std::span<const int32_t> tokens,
                          const Sequence& like);
  void use_near(Node& node);
  void use(Node& node);
  void drop_near(Node& node);
  void drop_leaf(Node& node);
  void make_room();

  uint64_t max_bytes_, limit_, bytes_ = 0, clock_ = 0;
  std::map<AdapterRef, std::unique_ptr<Node>> roots_;
  std::map<uint64_t, Node*> near_by_use_, leaves_by_use_;  // by the clock of the last use, unique
};

}  // namespace lapidary
