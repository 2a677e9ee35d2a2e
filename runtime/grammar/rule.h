// What a constrained answer may be, put together from texts, schemas, patterns and free text.
//
// A schema alone is the usual case. Thinking before JSON is sequence(free_until("<channel|>"),
// schema); tool calls in an answer are triggered(...). A text that is exactly a special token of
// the tokenizer means that token.
#pragma once

#include <string>
#include <vector>

namespace lapidary {

// Where white space may stand between JSON's signs. Models write the second; what is allowed is
// bounded, because a model may otherwise go on with spaces for ever.
enum class JsonSpace {
  kNone,     // {"a":1,"b":[2,3]}
  kOne,      // one space or none after : and ,
  kIndented  // that, or a new line and up to 32 spaces around items
};

struct SchemaOptions {
  JsonSpace space = JsonSpace::kOne;
  // Empty: JSON. Else the special token that stands around strings in the notation of Gemma's calls
  // (runtime/text/call_dialect.h): no escapes, bare keys, and properties sorted by name.
  std::string quote = {};
};

struct Rule {
  enum class Kind { kText, kRegex, kSchema, kSequence, kChoice, kMany, kTriggered };
  Kind kind;
  std::string source = {};  // the text, pattern or schema (JSON)
  SchemaOptions schema_options = {};
  std::vector<Rule> parts = {};  // kTriggered: what follows each of `triggers`
  std::vector<std::string> triggers = {};
  bool repeats = false, may_end = false;  // kTriggered, see there

  static Rule text(std::string text);
  static Rule regex(std::string pattern);  // the whole text matches
  static Rule schema(std::string json, SchemaOptions options = {});
  static Rule any_json(SchemaOptions options = {});
  static Rule sequence(std::vector<Rule> parts);
  static Rule choice(std::vector<Rule> parts);
  static Rule many(Rule part);  // any number of it, none too
  // Any text and special tokens up to the first `end`, which is part of it.
  static Rule free_until(std::string end);
  struct Trigger;
  // Free text in which each trigger is followed by its rule, then free text again; it may end
  // wherever it is free. No trigger may be contained in another. Last in a sequence.
  static Rule triggered(std::vector<Trigger> triggers);
  // The same with one trigger at most, whose rule is the end.
  static Rule triggered_once(std::vector<Trigger> triggers);
  // Free text up to the first of `ends`, and then its rule.
  static Rule free_until(std::vector<Trigger> ends);
};

struct Rule::Trigger {
  std::string text;
  Rule then;
};

}  // namespace lapidary
