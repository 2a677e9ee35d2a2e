// The tree, its two orders of use, and what leaves it.
#include "runtime/scheduler/prefix_cache.h"

#include <algorithm>

#include "formats/error.h"

namespace lapidary {

using PagePart = Sequence::PagePart;

struct PrefixCache::Node {
  Node* parent = nullptr;              // null: a root, which holds no page
  const PageTokens* tokens = nullptr;  // the key in the parent's map
  std::map<PageTokens, std::unique_ptr<Node>> children;
  std::unique_ptr<std::byte[]> lasting, near;  // near: null when dropped
  uint64_t lasting_bytes = 0, near_bytes = 0;
  uint64_t used = 0, near_used = 0;  // the clock then

  bool is_leaf() const { return parent && children.empty(); }
};

PrefixCache::PrefixCache(uint64_t max_bytes) : max_bytes_(max_bytes), limit_(max_bytes) {}
// Deep trees must not recurse: leaves go first.
PrefixCache::~PrefixCache() { limit(0); }

PrefixCache::PageTokens PrefixCache::page_tokens(std::span<const int32_t> tokens, int64_t page) {
  PageTokens key;
  std::copy_n(tokens.begin() + page * kPageTokens, kPageTokens, key.begin());
  return key;
}

// Nodes of the longest usable prefix, from the first page on.
std::vector<PrefixCache::Node*> PrefixCache::path(const AdapterRef& adapter,
                                                  std::span<const int32_t> tokens,
                                                  const Sequence& like) {
  std::vector<Node*> nodes;
  const auto root = roots_.find(adapter);
  if (root == roots_.end() || tokens.empty()) return nodes;
  const int64_t most = (std::ssize(tokens) - 1) / kPageTokens;
  for (Node* node = root->second.get(); std::ssize(nodes) < most;) {
    const auto next = node->children.find(page_tokens(tokens, std::ssize(nodes)));
    if (next == node->children.end()) break;
    nodes.push_back(node = next->second.get());
  }
  const auto is_usable = [&](int64_t n_pages) {
    for (int64_t page = like.first_near_page(n_pages * kPageTokens); page < n_pages; ++page)
      if (!nodes[size_t(page)]->near) return false;
    return true;
  };
  while (!nodes.empty() && !is_usable(std::ssize(nodes))) nodes.pop_back();
  return nodes;
}

int64_t PrefixCache::find(const AdapterRef& adapter, std::span<const int32_t> tokens,
                          const Sequence& like) {
  const std::vector<Node*> nodes = path(adapter, tokens, like);
  const int64_t n_tokens = std::ssize(nodes) * kPageTokens;
  for (Node* node : nodes) use(*node);
  for (size_t page = size_t(like.first_near_page(n_tokens)); page < nodes.size(); ++page)
    use_near(*nodes[page]);
  return n_tokens;
}

int64_t PrefixCache::restore(const AdapterRef& adapter, std::span<const int32_t> tokens,
                             Sequence& sequence) {
  const std::vector<Node*> nodes = path(adapter, tokens, sequence);
  const int64_t n_tokens = std::ssize(nodes) * kPageTokens;
  if (n_tokens == 0) return 0;
  const int64_t first_near = sequence.first_near_page(n_tokens);
  for (int64_t page = 0; page < std::ssize(nodes); ++page) {
    const Node& node = *nodes[size_t(page)];
    sequence.copy_page_in(page, PagePart::kLasting, node.lasting.get(), n_tokens);
    if (page >= first_near) sequence.copy_page_in(page, PagePart::kNear, node.near.get(), n_tokens);
  }
  sequence.restored(n_tokens);
  return n_tokens;
}

void PrefixCache::keep(const AdapterRef& adapter, std::span<const int32_t> tokens, int64_t page,
                       const Sequence& sequence) {
  LAPIDARY_CHECK((page + 1) * kPageTokens <= std::ssize(tokens));
  if (limit_ == 0 || !sequence.holds_page(page)) return;
  std::unique_ptr<Node>& root = roots_[adapter];
  if (!root) root = std::make_unique<Node>();
  Node* node = root.get();
  for (int64_t p = 0; p < page; ++p) {
    const auto next = node->children.find(page_tokens(tokens, p));
    if (next == node->children.end()) return;  // has been let go
    node = next->second.get();
  }
  const auto copy = [&](PagePart part, uint64_t& n_bytes) {
    n_bytes = sequence.page_part_bytes(page, part);
    auto bytes = std::make_unique_for_overwrite<std::byte[]>(n_bytes);
    sequence.copy_page_out(kernels(), page, part, bytes.get());
    bytes_ += n_bytes;
    return bytes;
  };
  std::unique_ptr<Node>& kept = node->children[page_tokens(tokens, page)];
  if (!kept) {
    if (node->children.size() == 1) leaves_by_use_.erase(node->used);  // no leaf any more
    kept = std::make_unique<Node>();
    kept->parent = node;
    kept->tokens = &node->children.find(page_tokens(tokens, page))->first;
    kept->lasting = copy(PagePart::kLasting, kept->lasting_bytes);
  }
  if (!kept->near) kept->near = copy(PagePart::kNear, kept->near_bytes);
  use(*kept);
  use_near(*kept);
  make_room();
}

void PrefixCache::use(Node& node) {
  if (node.is_leaf()) leaves_by_use_.erase(node.used);
  node.used = ++clock_;
  if (node.is_leaf()) leaves_by_use_.emplace(node.used, &node);
}

void PrefixCache::use_near(Node& node) {
  near_by_use_.erase(node.near_used);
  node.near_used = ++clock_;
  near_by_use_.emplace(node.near_used, &node);
}

void PrefixCache::drop_near(Node& node) {
  near_by_use_.erase(node.near_used);
  bytes_ -= node.near_bytes;
  node.near.reset();
  node.near_bytes = 0;
}

void PrefixCache::drop_leaf(Node& node) {
  if (node.near) drop_near(node);
  leaves_by_use_.erase(node.used);
  bytes_ -= node.lasting_bytes;
  Node* const parent = node.parent;
  parent->children.erase(parent->children.find(*node.tokens));  // `node` is gone
  if (parent->is_leaf()) {
    leaves_by_use_.emplace(parent->used, parent);
  } else if (!parent->parent && parent->children.empty()) {
    std::erase_if(roots_, [&](const auto& root) { return root.second.get() == parent; });
  }
}

void PrefixCache::make_room() {
  while (bytes_ > limit_ && !leaves_by_use_.empty()) {
    const auto leaf = leaves_by_use_.begin();
    const auto near = near_by_use_.begin();
    if (near != near_by_use_.end() && near->first < leaf->first)
      drop_near(*near->second);
    else
      drop_leaf(*leaf->second);
  }
}

void PrefixCache::limit(uint64_t bytes) {
  limit_ = std::min(bytes, max_bytes_);
  make_room();
}

}  // namespace lapidary
