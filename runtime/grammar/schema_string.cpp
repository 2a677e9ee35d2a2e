// Strings: any, of a length, of a pattern or a format.
#include <algorithm>
#include <map>

#include "formats/error.h"
#include "formats/utf8.h"
#include "runtime/grammar/schema_network.h"
#include "runtime/grammar/spelling.h"

namespace lapidary::grammar {
namespace {

CodeAutomaton any_characters() {
  CodeAutomaton any;
  any.nodes.push_back({{{CodeSet::all(), 0}}, true});
  return any;
}

// Strings of any length are a loop; of bounded length, a chain.
CodeAutomaton characters_of(const Schema& s) {
  if (s.pattern && s.format && format_pattern(*s.format))
    fail(ErrorCode::kUsage, "JSON schema: pattern beside format \"{}\" is not supported",
         *s.format);
  CodeAutomaton all = any_characters();
  if (s.pattern)
    all = compile_regex(*s.pattern, Anchoring::kSearch);
  else if (s.format && format_pattern(*s.format))
    all = compile_regex(format_pattern(*s.format), Anchoring::kWhole);
  if (s.min_length == 0 && s.max_length < 0) return all;
  return with_length(all, s.min_length, s.max_length);
}

// Every way to write \uXXXX, surrogate pairs included, between `from` and `to`.
void add_unicode_escapes(NetworkBuilder& net, NodeId from, NodeId to) {
  struct Range {
    char low, high;
  };
  const auto hex = [&](NodeId at, std::initializer_list<Range> ranges, NodeId next) {
    for (const Range& r : ranges)
      net.edge(at, static_cast<uint8_t>(r.low), static_cast<uint8_t>(r.high), next);
    return next;
  };
  const std::initializer_list<Range> any{{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
  const NodeId first = net.text_after(from, "\\u");
  const NodeId second =
      hex(first, {{'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}}, net.add_node());
  const NodeId third = hex(second, any, net.add_node());
  const NodeId fourth = hex(third, any, net.add_node());
  hex(fourth, any, to);
  const NodeId in_d = hex(first, {{'D', 'D'}, {'d', 'd'}}, net.add_node());
  hex(in_d, {{'0', '7'}}, third);
  const NodeId high3 = hex(in_d, {{'8', '9'}, {'A', 'B'}, {'a', 'b'}}, net.add_node());
  const NodeId high4 = hex(high3, any, net.add_node());
  const NodeId low1 = net.text_after(hex(high4, any, net.add_node()), "\\u");
  const NodeId low2 = hex(low1, {{'D', 'D'}, {'d', 'd'}}, net.add_node());
  hex(hex(low2, {{'C', 'F'}, {'c', 'f'}}, net.add_node()), any, fourth);
}

}  // namespace

NodeId ScalarNetworks::string(const Schema& s, const Notation& notation) {
  const std::string format = s.format && format_pattern(*s.format) ? *s.format : "";
  const std::string pattern = s.pattern.value_or("");
  NodeId& entry = known(notation.name() + "string " + std::to_string(s.min_length) + " " +
                        std::to_string(s.max_length) + " " + format + "/" + pattern);
  if (entry != kReturnNode) return entry;
  const NodeId start = entry = net_.add_node();
  if (s.max_length >= 0 && s.min_length > s.max_length) return start;  // trimmed: never returns
  const CodeAutomaton characters = characters_of(s);
  const Fragment body = notation.is_gemma() ? spell(without_text(characters, notation.quote_text),
                                                    Spelling::kText, net_)
                                            : spell(characters, Spelling::kJsonString, net_);
  net_.skip(net_.text_after(start, notation.quotation_mark()), body.start);
  const bool is_any = s.min_length == 0 && s.max_length < 0 && format.empty() && pattern.empty();
  if (is_any && !notation.is_gemma()) {
    add_unicode_escapes(net_, body.start, body.start);
    net_.skip(net_.text_after(body.start, "\\/"), body.start);
  }
  net_.mark_return(net_.text_after(body.end, notation.quotation_mark()));
  return start;
}

NodeId ScalarNetworks::other_key(const std::vector<Property>& names, const Notation& notation) {
  std::string key = notation.name() + "key";
  for (const Property& p : names) key += " " + std::to_string(p.name.size()) + ":" + p.name;
  NodeId& entry = known(key);
  if (entry != kReturnNode) return entry;

  // A trie of the names; the first other character leads to any string. What must be escaped is not
  // written before that, so no other spelling of a listed name can come out; in a bare key it is
  // not written at all.
  const bool is_bare = notation.is_gemma();
  const CodeSet& barred = is_bare ? barred_in_bare_keys() : escaped_in_json();
  struct Place {
    std::map<char32_t, uint32_t> children;
    bool is_name = false;
  };
  std::vector<Place> trie(1);
  for (const Property& p : names) {
    uint32_t at = 0;
    bool is_whole = true;
    for (size_t i = 0; i < p.name.size();) {
      const char32_t c = next_code_point(p.name, i);
      if (barred.has(c)) {
        is_whole = false;
        break;
      }
      const auto [found, is_new] =
          trie[at].children.try_emplace(c, static_cast<uint32_t>(trie.size()));
      at = found->second;
      if (is_new) trie.emplace_back();
    }
    trie[at].is_name |= is_whole;
  }
  CodeAutomaton all;
  const auto free = static_cast<uint32_t>(trie.size());
  for (size_t i = 0; i < trie.size(); ++i) {
    CodeAutomaton::Node node;
    node.accepts = !trie[i].is_name && i > 0;  // an empty name is nobody's wish
    std::vector<CodeRange> taken;
    for (const auto& [c, to] : trie[i].children) {
      node.edges.push_back({CodeSet({{c, c}}), to});
      taken.push_back({c, c});
    }
    node.edges.push_back({CodeSet(std::move(taken)).with(barred).complement(), free});
    all.nodes.push_back(std::move(node));
  }
  all.nodes.push_back({{{is_bare ? barred.complement() : CodeSet::all(), free}}, true});
  const NodeId start = entry = net_.add_node();
  const Fragment body = spell(all, is_bare ? Spelling::kText : Spelling::kJsonString, net_);
  if (is_bare) {
    net_.skip(start, body.start);
    net_.mark_return(body.end);
    return start;
  }
  net_.skip(net_.text_after(start, "\""), body.start);
  net_.mark_return(net_.text_after(body.end, "\""));
  return start;
}

}  // namespace lapidary::grammar
