// One schema: references become calls, so recursion costs nothing; the rest is spelled out in
// place.
#include "runtime/grammar/schema_network.h"

#include "formats/error.h"

namespace lapidary::grammar {
namespace {

constexpr int kMaxSchemaDepth = 256;
// Schemas compiled, merged ones included: anyOf beside anyOf multiplies.
constexpr int64_t kMaxWork = 200'000;
constexpr int kMaxIndent = 32;

}  // namespace

Fragment SchemaNetworks::add(std::string_view json, const SchemaOptions& options,
                             const Notation& notation) {
  SchemaDocument document(json);
  return SchemaCompiler(*this, document, options, notation).compile(document.root());
}

SchemaCompiler::SchemaCompiler(SchemaNetworks& networks, SchemaDocument& document,
                               const SchemaOptions& options, const Notation& notation)
    : net_(networks.net_),
      scalars_(networks.scalars_),
      document_(document),
      options_(options),
      notation_(notation) {}

Fragment SchemaCompiler::nothing() { return {net_.add_node(), net_.add_node()}; }

NodeId SchemaCompiler::space_after(NodeId from) {
  if (options_.space == JsonSpace::kNone) return from;
  const NodeId after = net_.add_node();
  net_.skip(from, after);
  net_.edge(from, ' ', ' ', after);
  return after;
}

NodeId SchemaCompiler::line_after(NodeId from) {
  if (options_.space != JsonSpace::kIndented) return from;
  if (indent_ == kReturnNode) {
    indent_ = net_.add_node();
    const NodeId end = net_.add_node();
    net_.mark_return(end);
    net_.skip(indent_, end);
    NodeId at = net_.text_after(indent_, "\n");
    for (int i = 0; i < kMaxIndent; ++i) {
      net_.skip(at, end);
      at = net_.text_after(at, " ");
    }
    net_.skip(at, end);
  }
  const NodeId after = net_.add_node();
  net_.call(from, indent_, after);
  return after;
}

NodeId SchemaCompiler::comma_after(NodeId from) {
  const NodeId comma = net_.text_after(line_after(from), ",");
  if (options_.space != JsonSpace::kIndented) return space_after(comma);
  const NodeId after = net_.add_node();
  net_.skip(space_after(comma), after);
  net_.skip(line_after(comma), after);
  return after;
}

NodeId SchemaCompiler::entry_of(const std::string& ref) {
  const auto [found, is_new] = refs_.try_emplace(ref, 0);
  if (!is_new) return found->second;
  const NodeId start = found->second = net_.add_node();  // before it is compiled: it may recur
  const Fragment f = compile(document_.target(ref));
  net_.skip(start, f.start);
  net_.mark_return(f.end);
  return start;
}

NodeId SchemaCompiler::any_entry() {
  if (any_ != kReturnNode) return any_;
  any_ = net_.add_node();
  const Fragment f = by_type(Schema());
  net_.skip(any_, f.start);
  net_.mark_return(f.end);
  return any_;
}

NodeId SchemaCompiler::entry(const SchemaPtr& schema) {
  if (!schema->ref.empty() && schema->is_plain()) return entry_of(schema->ref);
  const auto [found, is_new] = entries_.try_emplace(schema.get(), 0);
  if (!is_new) return found->second;
  kept_.push_back(schema);
  const NodeId start = found->second = net_.add_node();
  const Fragment f = compile(schema);
  net_.skip(start, f.start);
  // Its own end, in case the fragment is used elsewhere too.
  const NodeId end = net_.add_node();
  net_.skip(f.end, end);
  net_.mark_return(end);
  return start;
}

Fragment SchemaCompiler::alternatives(const SchemaPtr& schema) {
  auto rest = std::make_shared<Schema>(*schema);
  const Alternatives first = rest->alternatives.front();
  rest->alternatives.erase(rest->alternatives.begin());
  if (first.exactly_one)
    for (size_t i = 0; i < first.options.size(); ++i)
      for (size_t j = 0; j < i; ++j)
        if (!are_disjoint(document_.merged(rest, first.options[i]),
                          document_.merged(rest, first.options[j]), document_))
          fail(ErrorCode::kUsage,
               "JSON schema: options {} and {} of oneOf may both match; use anyOf, or a required "
               "property with different const values",
               j, i);
  std::vector<Fragment> parts;
  for (const SchemaPtr& option : first.options)
    parts.push_back(compile(document_.merged(rest, option)));
  return net_.either(parts);
}

Fragment SchemaCompiler::literals(const Schema& s) {
  if (s.has_number_keywords() || s.has_string_keywords() || s.has_array_keywords() ||
      s.has_object_keywords())
    fail(ErrorCode::kUsage,
         "JSON schema: enum or const beside keywords other than type is not supported");
  std::vector<std::string> texts;
  for (const Literal& l : *s.literals)
    if (l.type & s.types)
      if (auto text = literal_text(l.json, notation_)) texts.push_back(std::move(*text));
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  return texts.empty() ? nothing() : net_.one_of(views);
}

Fragment SchemaCompiler::compile(const SchemaPtr& schema) {
  if (++work_ > kMaxWork)
    fail(ErrorCode::kOutOfMemory, "JSON schema: it unfolds to more than {} parts", kMaxWork);
  struct Depth {
    explicit Depth(int& depth) : value(depth) {
      if (++value > kMaxSchemaDepth)
        fail(ErrorCode::kUsage, "JSON schema: it nests deeper than {} levels", kMaxSchemaDepth);
    }
    ~Depth() { --value; }
    int& value;
  } const depth(depth_);

  const Schema& s = *schema;
  if (!s.ref.empty())
    return s.is_plain() ? net_.call_of(entry_of(s.ref)) : compile(document_.resolved(schema));
  if (s.is_never) return nothing();
  if (s.is_plain()) return net_.call_of(any_entry());
  if (!s.all_of.empty()) {
    auto rest = std::make_shared<Schema>(s);
    rest->all_of.clear();
    SchemaPtr all = rest;
    for (const SchemaPtr& part : s.all_of) all = document_.merged(all, part);
    return compile(all);
  }
  if (!s.alternatives.empty()) return alternatives(schema);
  if (s.literals) return literals(s);

  return by_type(s);
}

Fragment SchemaCompiler::by_type(const Schema& s) {
  std::vector<std::string_view> words;
  if (s.types & kNull) words.push_back("null");
  if (s.types & kBoolean) {
    words.push_back("true");
    words.push_back("false");
  }
  std::vector<Fragment> parts;
  if (!words.empty()) parts.push_back(net_.one_of(words));
  if (s.types & kString) parts.push_back(net_.call_of(scalars_.string(s, notation_)));
  if (s.types & (kInteger | kFraction))
    parts.push_back(net_.call_of(scalars_.number(s, !(s.types & kFraction))));
  if (s.types & kArray) parts.push_back(array(s));
  if (s.types & kObject) parts.push_back(object(s));
  if (parts.size() == 1) return parts[0];
  return net_.either(parts);
}

}  // namespace lapidary::grammar
