// The loop itself; parsing and history are the session's.
#include "tools/cli/tool_loop.h"

namespace lapidary {

ToolLoopReply converse(ChatSession& chat, const LocalTools& tools, std::string_view user,
                       int64_t max_rounds, const ToolLoopEvents& told, const Events& events) {
  std::unique_ptr<ReplyParser> parser;
  const auto show = [&](std::vector<ReplyDelta>& deltas) {
    for (const ReplyDelta& delta : deltas)
      if (delta.kind == ReplyDelta::Kind::kContent && told.on_content) told.on_content(delta.text);
    deltas.clear();
  };
  std::vector<ReplyDelta> deltas;
  const auto on_text = [&](std::string_view piece) {
    if (!parser) parser = ReplyParser::make(chat.format(), chat.prompt_tail());
    parser->push(piece, deltas);
    show(deltas);
  };
  const auto next = [&](const auto& answer) {
    parser.reset();
    ChatReply reply = answer();
    if (parser) parser->finish(deltas);
    show(deltas);
    return reply;
  };

  ToolLoopReply all;
  all.last = next([&] { return chat.say(user, on_text, events); });
  for (int64_t round = 0; !all.last.parsed.calls.empty(); ++round) {
    if (all.last.result.finish_reason != "stop") return all;  // cut: half a plan is none
    if (round == max_rounds) {
      all.used_up = true;
      return all;
    }
    std::vector<std::string> results;
    for (const Reply::Call& call : all.last.parsed.calls) {
      events.poll();
      ToolAction action{call.name, call.arguments_json,
                        call.is_complete ? tools.call(call.name, call.arguments_json)
                                         : "error: the call was not complete"};
      if (told.on_action) told.on_action(action);
      results.push_back(action.result);
      all.actions.push_back(std::move(action));
    }
    all.last = next([&] { return chat.observe(results, on_text, events); });
  }
  return all;
}

}  // namespace lapidary
