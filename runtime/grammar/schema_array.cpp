// Arrays: one node per count of items, and a loop where no bound counts any more.
#include <algorithm>

#include "runtime/grammar/schema_network.h"

namespace lapidary::grammar {

Fragment SchemaCompiler::array(const Schema& s) {
  static const SchemaPtr anything = std::make_shared<Schema>();
  static const SchemaPtr never = [] {
    const auto schema = std::make_shared<Schema>();
    schema->is_never = true;
    return schema;
  }();
  // As with objects, what is listed is all there is unless the schema says more.
  const SchemaPtr rest = s.items ? s.items : s.prefix_items.empty() ? anything : never;
  const int64_t n_prefix = static_cast<int64_t>(s.prefix_items.size());
  const bool is_bounded = s.max_items >= 0 || rest->is_never;
  const int64_t counted = s.max_items < 0 ? std::max(n_prefix, s.min_items) : s.max_items;
  if (s.min_items > counted) return nothing();

  const Fragment all{net_.add_node(), net_.add_node()};
  const NodeId open = net_.text_after(all.start, "[");
  const NodeId before_close = net_.add_node();
  net_.skip(net_.text_after(line_after(before_close), "]"), all.end);

  if (s.min_items == 0) net_.skip(net_.text_after(open, "]"), all.end);
  NodeId at = line_after(open);  // where item i begins, but for the comma
  for (int64_t i = 0; i < counted || !is_bounded; ++i) {
    const SchemaPtr& item = i < n_prefix ? s.prefix_items[static_cast<size_t>(i)] : rest;
    if (item->is_never) break;
    const NodeId before = i == 0 ? at : comma_after(at);
    const bool is_loop = i > 0 && i >= counted;
    const NodeId next = is_loop ? at : net_.add_node();
    net_.call(before, entry(item), next);
    if (is_loop) break;
    at = next;
    if (i + 1 >= s.min_items) net_.skip(at, before_close);
  }
  return all;
}

}  // namespace lapidary::grammar
