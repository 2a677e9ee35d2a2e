// Safety is in the names: nothing runs that is not both in the file and in --allow-tool.
#include "tools/cli/tool_options.h"

#include <CLI/CLI.hpp>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "runtime/grammar/tool_calls.h"
#include "runtime/grammar/vocabulary.h"
#include "tools/cli/source.h"

namespace lapidary {

void ToolOptions::check(const ConstraintOptions& constraint) const {
  if (allowed.empty()) return;
  if (file.empty())
    fail(ErrorCode::kUsage, "--allow-tool needs --tools, whose file names the command");
  if (constraint.is_given())
    fail(ErrorCode::kUsage,
         "--allow-tool holds answers to the tools; drop --json-schema and --regex");
}

LocalTools ToolOptions::load() const {
  return LocalTools(file.empty() ? "" : read_json(file), allowed);
}

ChatReply ToolOptions::say(ChatSession& chat, const LocalTools& tools, std::string_view user,
                           const std::function<void(std::string_view)>& on_text,
                           const Events& events, const OutputOptions& out,
                           std::vector<ToolAction>& actions) const {
  if (!tools.may_run()) return chat.say(user, on_text, events);
  const auto tell = [&out](const ToolAction& a) {
    if (!out.quiet)
      fmt::print(stderr, "[{} {} -> {}]\n", a.name, excerpt(a.arguments_json), excerpt(a.result));
  };
  ToolLoopReply all = converse(chat, tools, user, rounds, {on_text, tell}, events);
  if (all.used_up && !out.quiet)
    fmt::print(stderr, "[stopped after {} rounds of calls; see --tool-rounds]\n", rounds);
  actions = std::move(all.actions);
  return std::move(all.last);
}

void add_tool_options(CLI::App& command, ToolOptions& options) {
  command.add_option("--tools", options.file, "JSON array of tools declared to the model")
      ->type_name("FILE");
  command
      .add_option(
          "--allow-tool", options.allowed,
          "Run the command that the tools file names for this tool when the model calls it; "
          "may be repeated")
      ->type_name("NAME")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      .add_option("--tool-rounds", options.rounds,
                  "Answers with calls before the conversation goes back to you")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{1000}))
      ->capture_default_str();
}

std::shared_ptr<const Constraint> calls_as_declared(const Model& model,
                                                    const std::string& declarations) {
  const ReplyFormat format = reply_format(model.file().metadata().chat_template);
  return Constraint::compile(tool_calls_rule(format, declarations, {}),
                             std::make_shared<const grammar::Vocabulary>(model.tokenizer()),
                             model.config().eos_ids);
}

}  // namespace lapidary
