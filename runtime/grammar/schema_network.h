// JSON Schemas to networks: what is written is always valid, though not all that is valid can be.
//
// Left out on purpose: other orders of properties, other spellings of numbers and escapes,
// unbounded white space. See docs/constrained.md for the list.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/grammar/call_notation.h"
#include "runtime/grammar/network.h"
#include "runtime/grammar/rule.h"
#include "runtime/grammar/schema.h"

namespace lapidary::grammar {

// Scalars are networks of their own, one per kind, so that all strings of a schema share states.
class ScalarNetworks {
 public:
  explicit ScalarNetworks(NetworkBuilder& net) : net_(net) {}
  // Entries of networks, quotes included.
  NodeId string(const Schema& s, const Notation& notation);
  NodeId number(const Schema& s, bool only_integers);
  // Strings that are none of `names`.
  NodeId other_key(const std::vector<Property>& names, const Notation& notation);

 private:
  NodeId& known(const std::string& key) {
    return entries_.try_emplace(key, kReturnNode).first->second;
  }
  NodeId any_string();

  NetworkBuilder& net_;
  std::map<std::string, NodeId> entries_;
};

class SchemaNetworks {
 public:
  explicit SchemaNetworks(NetworkBuilder& net) : net_(net), scalars_(net) {}
  Fragment add(std::string_view json, const SchemaOptions& options, const Notation& notation);

 private:
  friend class SchemaCompiler;
  NetworkBuilder& net_;
  ScalarNetworks scalars_;
};

// One schema document on its way into the network.
class SchemaCompiler {
 public:
  SchemaCompiler(SchemaNetworks& networks, SchemaDocument& document, const SchemaOptions& options,
                 const Notation& notation);
  Fragment compile(const SchemaPtr& schema);

 private:
  Fragment by_type(const Schema& s);
  Fragment alternatives(const SchemaPtr& schema);
  Fragment literals(const Schema& s);
  Fragment array(const Schema& s);
  Fragment object(const Schema& s);
  Fragment member(Fragment key, const SchemaPtr& value, bool is_repeated);
  Fragment extra_key(const SchemaPtr& schema, const std::vector<Property>& listed);
  Fragment nothing();                     // no text at all
  NodeId entry(const SchemaPtr& schema);  // of a network for it, made once
  NodeId entry_of(const std::string& ref);
  NodeId any_entry();
  // White space behind a sign, and around items.
  NodeId space_after(NodeId from);
  NodeId line_after(NodeId from);
  NodeId comma_after(NodeId from);

  NetworkBuilder& net_;
  ScalarNetworks& scalars_;
  SchemaDocument& document_;
  SchemaOptions options_;
  Notation notation_;
  std::map<std::string, NodeId> refs_;
  std::map<const Schema*, NodeId> entries_;
  std::vector<SchemaPtr> kept_;                      // keeps the keys of entries_ alive
  NodeId indent_ = kReturnNode, any_ = kReturnNode;  // entries: white space, any value
  int depth_ = 0;
  int64_t work_ = 0;
};

// The regular expression of a known format, or null: other formats are annotations.
const char* format_pattern(std::string_view format);

}  // namespace lapidary::grammar
