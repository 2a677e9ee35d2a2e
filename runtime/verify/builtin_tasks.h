// Procedural tasks: items generated from a seed, so a verdict needs no download and no item was
// ever in anybody's training data. The same seed gives the same items everywhere.
//
// Tasks: arithmetic, sort, largest, extract (JSON), needle (a key in the built-in text), tool (a
// call of one of several functions). Each has one right answer that can be compared exactly.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/verify/random.h"
#include "runtime/verify/tasks.h"

namespace lapidary {

// How a tool item declares functions and expects the call.
enum class ToolGrammar { kGemma, kJson };
// Gemma's when the tokenizer has its special tokens.
ToolGrammar tool_grammar_of(const Tokenizer& tokenizer);

struct BuiltinTaskOptions {
  uint64_t seed = 1;
  int64_t per_task = 100;            // items of each task, at most 10,000
  int64_t needle_characters = 1500;  // of haystack; 0: no needle task
  ToolGrammar tools = ToolGrammar::kGemma;
};

// No two items are equal. Throws kUsage for options out of range.
std::vector<TaskItem> builtin_tasks(const BuiltinTaskOptions& options);

// One tool item; part of builtin_tasks(), apart because it is the longest.
TaskItem make_tool_item(SplitMix64& random, ToolGrammar grammar);

}  // namespace lapidary
