// Plan, act, observe: the model answers, the tools it calls are run, it reads the results and goes
// on, until it calls none or the rounds are used up.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/chat_session.h"
#include "tools/cli/local_tools.h"

namespace lapidary {

struct ToolAction {
  std::string name, arguments_json, result;
};

struct ToolLoopReply {
  ChatReply last;  // what the model said in the end
  std::vector<ToolAction> actions;
  bool used_up = false;  // it still wanted to call tools
};

struct ToolLoopEvents {
  std::function<void(std::string_view)> on_content;  // text of answers, without thoughts and calls
  std::function<void(const ToolAction&)> on_action;  // behind each call
};

// Says `user` and acts up to `max_rounds` times. Calls that broke off are not run.
ToolLoopReply converse(ChatSession& chat, const LocalTools& tools, std::string_view user,
                       int64_t max_rounds, const ToolLoopEvents& told, const Events& events);

}  // namespace lapidary
