// Literals and keys are written as the templates write them, members sorted by name.
#include "runtime/grammar/call_notation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "formats/error.h"
#include "formats/json_guard.h"

namespace lapidary::grammar {
namespace {

using Json = nlohmann::ordered_json;

bool may_be_bare(const std::string& name) {
  const auto is_barred = [](char c) {
    return c != ' ' && static_cast<uint8_t>(c) < 0x80 &&
           barred_in_bare_keys().has(static_cast<char32_t>(c));
  };
  return !name.empty() && name.front() != ' ' && name.back() != ' ' &&
         std::none_of(name.begin(), name.end(), is_barred);
}

// False when a string has no spelling.
bool write(const Json& value, const Notation& notation, std::string& out) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    out += notation.quotation_mark() + text + notation.quotation_mark();
    return text.find(notation.quote_text) == std::string::npos;
  }
  if (!value.is_structured()) {
    out += value.dump();
    return true;
  }
  std::vector<std::pair<std::string, const Json*>> members;
  for (const auto& [name, member] : value.items()) members.emplace_back(name, &member);
  if (value.is_object())
    std::ranges::stable_sort(members, {}, [](const auto& m) { return lower_case(m.first); });
  out += value.is_object() ? '{' : '[';
  for (size_t i = 0; i < members.size(); ++i) {
    if (i > 0) out += ',';
    if (value.is_object()) out += key_text(members[i].first, notation) + ":";
    if (!write(*members[i].second, notation, out)) return false;
  }
  out += value.is_object() ? '}' : ']';
  return true;
}

}  // namespace

std::string lower_case(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

std::string key_text(const std::string& name, const Notation& notation) {
  if (!notation.is_gemma()) return Json(name).dump();
  if (may_be_bare(name)) return name;
  std::string text;
  if (!write(Json(name), notation, text))
    fail(ErrorCode::kUsage, "JSON schema: a property named \"{}\" has no spelling in a call",
         excerpt(name));
  return text;
}

std::optional<std::string> literal_text(const std::string& json, const Notation& notation) {
  if (!notation.is_gemma()) return json;
  std::string text;
  return write(Json::parse(json), notation, text) ? std::optional(text) : std::nullopt;
}

const CodeSet& barred_in_bare_keys() {
  static const CodeSet set({{0, ' '},
                            {'"', '"'},
                            {'\'', '\''},
                            {',', ','},
                            {':', ':'},
                            {'<', '<'},
                            {'>', '>'},
                            {'[', '['},
                            {']', ']'},
                            {'{', '{'},
                            {'}', '}'},
                            {0x7F, 0xA0}});
  return set;
}

// The product with the automaton of Knuth, Morris and Pratt: place k has just seen the first k
// characters of `text`.
CodeAutomaton without_text(const CodeAutomaton& automaton, std::string_view text) {
  const auto seen = [&](size_t k, char c) {
    const std::string tail = std::string(text.substr(0, k)) + c;
    size_t n = tail.size();
    while (!text.starts_with(std::string_view(tail).substr(tail.size() - n))) --n;
    return n;
  };
  std::string letters(text);
  std::ranges::sort(letters);
  letters.erase(std::unique(letters.begin(), letters.end()), letters.end());

  CodeAutomaton out;
  std::unordered_map<uint64_t, uint32_t> numbers;
  std::vector<std::pair<uint32_t, size_t>> order;
  const auto number = [&](uint32_t node, size_t k) {
    const auto [found, is_new] =
        numbers.try_emplace(uint64_t{node} << 32 | k, static_cast<uint32_t>(order.size()));
    if (is_new) order.emplace_back(node, k);
    return found->second;
  };
  number(automaton.start, 0);
  for (size_t i = 0; i < order.size(); ++i) {
    const auto [node, k] = order[i];
    CodeAutomaton::Node copy;
    copy.accepts = automaton.nodes[node].accepts;
    for (const CodeAutomaton::Edge& edge : automaton.nodes[node].edges) {
      CodeSet others = edge.set;
      for (const char c : letters) {
        const auto code = static_cast<char32_t>(c);
        if (const size_t next = seen(k, c); edge.set.has(code) && next > 0) {
          others = others.without(CodeSet({{code, code}}));
          if (next < text.size())
            copy.edges.push_back({CodeSet({{code, code}}), number(edge.to, next)});
        }
      }
      if (!others.empty()) copy.edges.push_back({others, number(edge.to, 0)});
    }
    out.nodes.push_back(std::move(copy));
  }
  for (size_t i = 0; i < order.size(); ++i) {
    const auto [node, k] = order[i];
    if (const auto alike = automaton.nodes[node].alike)
      if (const auto found = numbers.find(uint64_t{*alike} << 32 | k); found != numbers.end())
        out.nodes[i].alike = found->second;
  }
  return out;
}

}  // namespace lapidary::grammar
