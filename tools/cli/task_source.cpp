// Files and built-in items behind one option.
#include "tools/cli/task_source.h"

#include "runtime/verify/builtin_tasks.h"

namespace lapidary {

std::vector<TaskItem> load_tasks(const std::string& source, int64_t limit_per_task,
                                 const Tokenizer& tokenizer) {
  if (source != "builtin") return read_tasks(source, limit_per_task);
  BuiltinTaskOptions options;
  if (limit_per_task > 0) options.per_task = limit_per_task;
  options.tools = tool_grammar_of(tokenizer);
  return builtin_tasks(options);
}

}  // namespace lapidary
