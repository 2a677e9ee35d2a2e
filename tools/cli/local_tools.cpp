// Reading the file, and turning ends of commands into words for the model.
#include "tools/cli/local_tools.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "tools/cli/signals.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kMaxSeconds = 3600;
constexpr double kMaxOutputBytes = 16 << 20;

double limit_of(const Json& tool, const char* key, double otherwise, double most) {
  const Json value = tool.value(key, Json(otherwise));
  if (!value.is_number() || value.get<double>() <= 0 || value.get<double>() > most)
    fail(ErrorCode::kBadData, "tools: {} is {}; expected a number over 0, at most {}", key,
         excerpt(value.dump()), most);
  return value.get<double>();
}

std::vector<std::string> argv_of(const Json& command, const std::string& name) {
  const auto is_text = [](const Json& part) {
    return part.is_string() && part.get_ref<const std::string&>().find('\0') == std::string::npos;
  };
  if (!command.is_array() || command.empty() ||
      !std::all_of(command.begin(), command.end(), is_text) ||
      command[0].get<std::string>().empty())
    fail(ErrorCode::kBadData,
         "tools: the command of \"{}\" is {}; expected an array: the program and its arguments",
         excerpt(name), excerpt(command.dump()));
  return command.get<std::vector<std::string>>();
}

}  // namespace

LocalTools::LocalTools(std::string_view tools_json, const std::vector<std::string>& allowed) {
  std::vector<std::string> without_command;
  if (!tools_json.empty()) {
    guard_json(tools_json, "tools");
    Json tools = Json::parse(tools_json);
    if (!tools.is_array()) fail(ErrorCode::kBadData, "tools: expected a JSON array");
    for (Json& tool : tools) {
      if (!tool.is_object()) fail(ErrorCode::kBadData, "tools: expected an array of objects");
      const Json& function = tool.contains("function") ? tool["function"] : tool;
      const std::string name = function.is_object() && function.value("name", Json()).is_string()
                                   ? function["name"]
                                   : "";
      if (tool.contains("command")) {
        Command command{argv_of(tool["command"], name), {}};
        command.limits.seconds = limit_of(tool, "seconds", command.limits.seconds, kMaxSeconds);
        command.limits.output_bytes = static_cast<size_t>(
            limit_of(tool, "output_bytes", static_cast<double>(command.limits.output_bytes),
                     kMaxOutputBytes));
        if (std::ranges::find(allowed, name) != allowed.end()) commands_[name] = command;
      } else {
        without_command.push_back(name);
      }
      for (const char* ours : {"command", "seconds", "output_bytes"}) tool.erase(ours);
    }
    declarations_ = tools.dump();
  }
  for (const std::string& name : allowed) {
    if (commands_.contains(name)) continue;
    if (std::ranges::find(without_command, name) != without_command.end())
      fail(ErrorCode::kUsage, "--allow-tool {}: the tools file names no command for it", name);
    fail(ErrorCode::kUsage, "--allow-tool {}: the tools file has no such tool", name);
  }
}

std::string LocalTools::call(const std::string& name, std::string_view arguments_json) const {
  const auto found = commands_.find(name);
  if (found == commands_.end()) return "error: the user has not allowed this tool to be called";
  const auto& [argv, limits] = found->second;
  ChildResult result;
  try {
    result = run_child(argv, arguments_json, limits, interrupted_flag());
  } catch (const Error& e) {
    if (e.code() == ErrorCode::kInterrupted) throw;
    return fmt::format("error: {}", e.what());
  }
  while (!result.output.empty() && result.output.back() == '\n') result.output.pop_back();
  switch (result.end) {
    case ChildResult::End::kExited:
      if (result.status == 0) return result.output;
      return fmt::format("error: exit status {}\n{}", result.status, result.output);
    case ChildResult::End::kSignalled:
      return fmt::format("error: ended by signal {}\n{}", result.status, result.output);
    case ChildResult::End::kTimedOut:
      return fmt::format("error: no result within {} s", limits.seconds);
    case ChildResult::End::kTooMuchOutput:
      return fmt::format("error: the result was longer than {} bytes", limits.output_bytes);
  }
  fail(ErrorCode::kInternal, "unknown end of a command");
}

}  // namespace lapidary
