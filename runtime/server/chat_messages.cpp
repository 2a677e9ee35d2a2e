// Templates see what is known here and nothing else.
#include "runtime/server/chat_messages.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "formats/json_guard.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

Json tool_calls(const std::vector<Fields>& calls) {
  Json out = Json::array();
  for (const Fields& call : calls) {
    const auto function = call.object("function");
    if (!function) call.refuse("expected a function");
    Json one{{"type", "function"}};
    if (const auto id = call.text("id")) one["id"] = *id;
    const auto arguments = function->member("arguments");
    one["function"] = {
        {"name", function->need_text("name")},
        {"arguments", arguments ? Json::parse(call_arguments_json(*arguments)) : Json::object()}};
    out.push_back(std::move(one));
  }
  return out;
}

Json message_of(const Fields& message) {
  std::string role = message.need_text("role");
  if (role == "developer") role = "system";
  if (role != "system" && role != "user" && role != "assistant" && role != "tool")
    message.refuse(fmt::format("role \"{}\": expected system, developer, user, assistant or tool",
                               excerpt(role)));
  Json out{{"role", role}};
  const auto content = message.member("content");
  const auto calls = message.array("tool_calls");
  if (content)
    out["content"] = content_text(*content);
  else if (role != "assistant")
    message.refuse("content is required");
  else
    out["content"] = calls && !calls->empty() ? Json() : Json("");
  if (calls && !calls->empty()) {
    if (role != "assistant") message.refuse("only an assistant has tool_calls");
    out["tool_calls"] = tool_calls(*calls);
  }
  for (const char* name : {"name", "tool_call_id", "reasoning_content", "reasoning"})
    if (const auto text = message.text(name)) out[name] = *text;
  return out;
}

}  // namespace

// Parts in a row are one text: templates differ in what they make of lists.
std::string content_text(const Fields& content) {
  if (content.kind() == Fields::Kind::kText) return content.as_text();
  if (content.kind() != Fields::Kind::kArray)
    content.refuse("expected a string or a list of parts");
  std::string text;
  for (const Fields& part : content.items()) {
    const std::string type = part.need_text("type");
    if (type == "text" || type == "input_text" || type == "output_text")
      text += part.need_text("text");
    else if (type == "refusal")
      text += part.need_text("refusal");
    else
      part.refuse(
          fmt::format("parts of type \"{}\" are not supported; this server takes text", type));
  }
  return text;
}

// The model may have written them: what is no object is passed on as it is.
std::string call_arguments_json(const Fields& arguments) {
  if (arguments.kind() == Fields::Kind::kObject) return arguments.json();
  const std::string text = arguments.as_text();
  if (text.empty()) return "{}";
  try {
    return Fields::parse(text).json();
  } catch (const ApiError&) {
    return Json(text).dump();
  }
}

std::string declaration_json(const Fields& function, const char* parameters) {
  Json one{{"name", function.need_text("name")},
           {"description", function.text("description").value_or("")}};
  const auto schema = function.object(parameters);
  one["parameters"] = schema ? Json::parse(schema->json())
                             : Json{{"type", "object"}, {"properties", Json::object()}};
  if (const auto strict = function.flag("strict")) one["strict"] = *strict;
  return one.dump();
}

std::string chat_messages(const Fields& body) {
  const std::vector<Fields> messages = body.need_array("messages");
  if (messages.empty()) refuse_field("messages", "expected at least one message");
  Json out = Json::array();
  for (const Fields& message : messages) {
    if (message.kind() != Fields::Kind::kObject) message.refuse("expected an object");
    out.push_back(message_of(message));
  }
  return out.dump();
}

std::string chat_tools(const Fields& body) {
  const auto tools = body.array("tools");
  if (!tools || tools->empty()) return {};
  Json out = Json::array();
  for (const Fields& tool : *tools) {
    if (const std::string type = tool.need_text("type"); type != "function")
      tool.refuse(fmt::format("type \"{}\": expected function", excerpt(type)));
    const auto function = tool.object("function");
    if (!function) tool.refuse("expected a function");
    out.push_back({{"type", "function"},
                   {"function", Json::parse(declaration_json(*function, "parameters"))}});
  }
  return out.dump();
}

void read_tool_choice(const Fields& body, Ask& ask) {
  ask.parallel_tool_calls = body.flag("parallel_tool_calls").value_or(true);
  const auto choice = body.member("tool_choice");
  if (!choice) return;
  if (choice->kind() == Fields::Kind::kText) {
    const std::string word = choice->as_text();
    if (word == "none")
      ask.tool_choice = ToolChoice::kNone;
    else if (word == "required")
      ask.tool_choice = ToolChoice::kRequired;
    else if (word != "auto")
      choice->refuse("expected none, auto, required or a function");
  } else {
    const auto function = choice->object("function");
    ask.tool_name = function ? function->need_text("name") : choice->need_text("name");
    ask.tool_choice = ToolChoice::kNamed;
  }
  if (ask.tools_json.empty() && ask.tool_choice != ToolChoice::kAuto &&
      ask.tool_choice != ToolChoice::kNone)
    choice->refuse("needs tools");
}

}  // namespace lapidary::server
