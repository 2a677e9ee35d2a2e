// Tools that a model may call on this machine: commands from a tools file, and of these only the
// ones that the user allowed by name.
//
// In the file "command" stands beside "function": an array of the program and its arguments, which
// get nothing from the model; the call's arguments arrive as JSON on stdin, stdout is the result.
// "seconds" (10) and "output_bytes" (65536) limit it.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tools/cli/child_process.h"

namespace lapidary {

class LocalTools {
 public:
  // `tools_json`: the file's text, empty for none. Throws kBadData for a file that is not as above,
  // kUsage for an allowed name that has no tool or no command.
  LocalTools(std::string_view tools_json, const std::vector<std::string>& allowed);

  // What the model is told: the array without the commands, empty for none.
  const std::string& declarations() const { return declarations_; }
  bool may_run() const { return !commands_.empty(); }
  // What to tell the model; failures are told too. Throws kInterrupted.
  std::string call(const std::string& name, std::string_view arguments_json) const;

 private:
  struct Command {
    std::vector<std::string> argv;
    ChildLimits limits;
  };
  std::string declarations_;
  std::map<std::string, Command> commands_;  // the allowed ones
};

}  // namespace lapidary
