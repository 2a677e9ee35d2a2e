// What --tasks means: a JSONL file, or the word builtin for procedural items.
#pragma once

#include <string>
#include <vector>

#include "runtime/verify/tasks.h"

namespace lapidary {

inline constexpr const char* kTasksHelp = "JSONL of task items, or the word builtin";

// `limit_per_task` 0: all of a file, 100 built-in items per task. `tokenizer` decides the grammar
// of built-in tool calls.
std::vector<TaskItem> load_tasks(const std::string& source, int64_t limit_per_task,
                                 const Tokenizer& tokenizer);

}  // namespace lapidary
