// Anthropic's requests brought into the form of chat completions: blocks become messages, results
// of tools become messages of their own.
// Source: docs.anthropic.com/en/api/messages
#include "runtime/server/messages.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "formats/json_guard.h"
#include "runtime/server/ask_fields.h"
#include "runtime/server/chat_messages.h"
#include "runtime/server/endpoint.h"
#include "runtime/server/prompts.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostTokens = int64_t{1} << 31;
constexpr size_t kMaxStops = 16;

[[noreturn]] void refuse_type(const Fields& block, const std::string& type) {
  block.refuse(fmt::format("blocks of type \"{}\" are not supported; this server takes text",
                           excerpt(type)));
}

Json result_message(const Fields& block) {
  const auto content = block.member("content");
  return {{"role", "tool"},
          {"tool_call_id", block.need_text("tool_use_id")},
          {"content", content ? content_text(*content) : std::string()}};
}

// Results come first: they answer the turn before.
void add_user(const Fields& content, Json& out) {
  if (content.kind() == Fields::Kind::kText) {
    out.push_back({{"role", "user"}, {"content", content.as_text()}});
    return;
  }
  std::string text;
  bool has_text = false;
  for (const Fields& block : content.items()) {
    const std::string type = block.need_text("type");
    if (type == "tool_result") {
      out.push_back(result_message(block));
    } else if (type == "text") {
      has_text = true;
      text += block.need_text("text");
    } else {
      refuse_type(block, type);
    }
  }
  if (has_text) out.push_back({{"role", "user"}, {"content", text}});
}

void add_assistant(const Fields& content, Json& out) {
  if (content.kind() == Fields::Kind::kText) {
    out.push_back({{"role", "assistant"}, {"content", content.as_text()}});
    return;
  }
  Json message{{"role", "assistant"}, {"content", ""}};
  std::string text, thought;
  for (const Fields& block : content.items()) {
    const std::string type = block.need_text("type");
    if (type == "text") {
      text += block.need_text("text");
    } else if (type == "thinking") {
      thought += block.need_text("thinking");
    } else if (type == "tool_use") {
      const auto input = block.object("input");
      message["tool_calls"].push_back(
          {{"type", "function"},
           {"id", block.need_text("id")},
           {"function",
            {{"name", block.need_text("name")},
             {"arguments", input ? Json::parse(input->json()) : Json::object()}}}});
    } else if (type != "redacted_thinking") {
      refuse_type(block, type);
    }
  }
  message["content"] = text;
  if (!thought.empty()) message["reasoning_content"] = thought;
  out.push_back(std::move(message));
}

std::string messages_json(const Fields& body) {
  Json out = Json::array();
  if (const auto system = body.member("system"))
    out.push_back({{"role", "system"}, {"content", content_text(*system)}});
  const std::vector<Fields> messages = body.need_array("messages");
  if (messages.empty()) refuse_field("messages", "expected at least one message");
  for (const Fields& message : messages) {
    const std::string role = message.need_text("role");
    const auto content = message.member("content");
    if (!content) message.refuse("content is required");
    if (role == "user")
      add_user(*content, out);
    else if (role == "assistant")
      add_assistant(*content, out);
    else
      message.refuse("role: expected user or assistant");
  }
  return out.dump();
}

void read_tools(const Fields& body, Ask& ask) {
  const auto tools = body.array("tools");
  Json out = Json::array();
  if (tools)
    for (const Fields& tool : *tools) {
      if (const auto type = tool.text("type"); type && *type != "custom")
        tool.refuse("only tools of one's own are supported, type \"custom\"");
      out.push_back({{"type", "function"},
                     {"function", Json::parse(declaration_json(tool, "input_schema"))}});
    }
  if (!out.empty()) ask.tools_json = out.dump();
  const auto choice = body.object("tool_choice");
  if (!choice) return;
  const std::string type = choice->need_text("type");
  if (type == "none")
    ask.tool_choice = ToolChoice::kNone;
  else if (type == "any")
    ask.tool_choice = ToolChoice::kRequired;
  else if (type == "tool")
    ask.tool_choice = ToolChoice::kNamed, ask.tool_name = choice->need_text("name");
  else if (type != "auto")
    choice->refuse("expected type auto, any, tool or none");
  if (ask.tools_json.empty() && type != "auto" && type != "none") choice->refuse("needs tools");
  ask.parallel_tool_calls = !choice->flag("disable_parallel_tool_use").value_or(false);
}

void read_thinking(const Fields& body, Ask& ask) {
  const auto thinking = body.object("thinking");
  if (!thinking) return;
  const std::string type = thinking->need_text("type");
  if (type != "enabled" && type != "disabled" && type != "adaptive")
    thinking->refuse("expected type enabled, adaptive or disabled");
  ask.thinking = type != "disabled";
}

void read_form(const Fields& body, Ask& ask) {
  const auto config = body.object("output_config");
  const auto format = config ? config->object("format") : std::nullopt;
  if (!format) return;
  if (format->need_text("type") != "json_schema") format->refuse("expected type json_schema");
  ask.schema_json = format->json("schema");
  if (ask.schema_json.empty()) format->refuse("schema is required");
  ask.form = AnswerForm::kJsonSchema;
}

}  // namespace

Ask read_messages(const Fields& body, bool needs_limit) {
  Ask ask;
  ask.model = body.text("model").value_or("");
  ask.stream = body.flag("stream").value_or(false);
  ask.messages_json = messages_json(body);
  ask.max_tokens = body.integer("max_tokens", 1, kMostTokens);
  if (needs_limit && !ask.max_tokens) refuse_field("max_tokens", "is required");
  ask.sampling.temperature = body.number("temperature", 0, 2);
  ask.sampling.top_p = body.number("top_p", 0, 1);
  if (ask.sampling.top_p == 0) ask.sampling.top_p = 1e-6;
  ask.sampling.top_k = body.integer("top_k", 0, 1 << 24);
  if (const auto stop = body.member("stop_sequences")) ask.stop = read_texts(*stop, kMaxStops);
  read_tools(body, ask);
  read_thinking(body, ask);
  read_form(body, ask);
  return ask;
}

void messages(const Call& call) {
  const Ask ask = read_messages(Fields::parse(call.request.body), /*needs_limit=*/true);
  ModelUse use = call.models.use(ask.model);
  auto writer = make_messages_writer(use.name);
  start_answering(ask, std::move(use), std::move(writer), call.exchange, call.metrics,
                  call.options);
}

void count_tokens(const Call& call) {
  const Ask ask = read_messages(Fields::parse(call.request.body), /*needs_limit=*/false);
  const ModelUse use = call.models.use(ask.model);
  const size_t n = make_prompts(ask, *use.model).tokens.front().size();
  call.respond(Json{{"input_tokens", n}}.dump());
}

}  // namespace lapidary::server
