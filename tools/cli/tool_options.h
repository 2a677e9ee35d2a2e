// --tools, --allow-tool and --tool-rounds.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/cli/command_options.h"
#include "tools/cli/constraint_options.h"
#include "tools/cli/tool_loop.h"

namespace lapidary {

struct ToolOptions {
  std::string file;
  std::vector<std::string> allowed;
  int64_t rounds = 8;

  // Throws kUsage for options that do not go together.
  void check(const ConstraintOptions& constraint) const;
  LocalTools load() const;
  // What the model says in the end. With allowed tools the text comes without calls and thoughts,
  // and what is done is told on stderr and added to `actions`.
  ChatReply say(ChatSession& chat, const LocalTools& tools, std::string_view user,
                const std::function<void(std::string_view)>& on_text, const Events& events,
                const OutputOptions& out, std::vector<ToolAction>& actions) const;
};
void add_tool_options(CLI::App& command, ToolOptions& options);

// Any answer in which calls are as the tools are declared, so that they can be run.
std::shared_ptr<const Constraint> calls_as_declared(const Model& model,
                                                    const std::string& declarations);

}  // namespace lapidary
