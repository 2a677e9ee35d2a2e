// OpenAI's Responses API, without memory: the whole conversation comes in "input" each time.
#include "runtime/server/responses.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "formats/json_guard.h"
#include "runtime/server/ask_fields.h"
#include "runtime/server/chat_messages.h"
#include "runtime/server/endpoint.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostTokens = int64_t{1} << 31;

// Items in order. Thoughts and calls stand before the rest of their turn: both go into one message.
class Conversation {
 public:
  void add(const Fields& item) {
    if (item.kind() != Fields::Kind::kObject) item.refuse("expected an object");
    const std::string type = item.text("type").value_or("message");
    if (type == "message")
      add_message(item);
    else if (type == "function_call")
      add_call(item);
    else if (type == "function_call_output")
      add_result(item);
    else if (type == "reasoning")
      add_thought(item);
    else
      item.refuse(fmt::format("items of type \"{}\" are not supported", excerpt(type)));
  }
  void add_plain(const char* role, const std::string& text) {
    messages_.push_back({{"role", role}, {"content", text}});
  }
  std::string json() const { return messages_.dump(); }
  bool is_empty() const { return messages_.empty(); }

 private:
  void add_message(const Fields& item) {
    std::string role = item.need_text("role");
    if (role == "developer") role = "system";
    if (role != "system" && role != "user" && role != "assistant")
      item.refuse("role: expected user, assistant, system or developer");
    const auto content = item.member("content");
    if (!content) item.refuse("content is required");
    messages_.push_back({{"role", role}, {"content", content_text(*content)}});
    if (role == "assistant") take_thought();
  }
  void add_call(const Fields& item) {
    if (messages_.empty() || messages_.back()["role"] != "assistant" || !thought_.empty())
      messages_.push_back({{"role", "assistant"}, {"content", nullptr}});
    take_thought();
    const auto arguments = item.member("arguments");
    messages_.back()["tool_calls"].push_back(
        {{"type", "function"},
         {"id", item.need_text("call_id")},
         {"function",
          {{"name", item.need_text("name")},
           {"arguments",
            arguments ? Json::parse(call_arguments_json(*arguments)) : Json::object()}}}});
  }
  void add_result(const Fields& item) {
    const auto output = item.member("output");
    if (!output) item.refuse("output is required");
    messages_.push_back({{"role", "tool"},
                         {"tool_call_id", item.need_text("call_id")},
                         {"content", content_text(*output)}});
  }
  void add_thought(const Fields& item) {
    for (const char* list : {"content", "summary"})
      if (const auto parts = item.array(list); parts && thought_.empty())
        for (const Fields& part : *parts) thought_ += part.text("text").value_or("");
  }
  void take_thought() {
    if (!thought_.empty()) messages_.back()["reasoning_content"] = std::exchange(thought_, {});
  }

  Json messages_ = Json::array();
  std::string thought_;  // of the assistant's message that follows
};

std::string messages_json(const Fields& body) {
  Conversation conversation;
  if (const auto text = body.text("instructions")) conversation.add_plain("system", *text);
  const auto input = body.member("input");
  if (!input) refuse_field("input", "is required");
  if (input->kind() == Fields::Kind::kText)
    conversation.add_plain("user", input->as_text());
  else
    for (const Fields& item : input->items()) conversation.add(item);
  if (conversation.is_empty()) refuse_field("input", "is empty");
  return conversation.json();
}

void read_tools(const Fields& body, Ask& ask) {
  Json out = Json::array();
  if (const auto tools = body.array("tools"))
    for (const Fields& tool : *tools) {
      if (const std::string type = tool.need_text("type"); type != "function")
        tool.refuse(fmt::format("type \"{}\": expected function", excerpt(type)));
      out.push_back(
          {{"type", "function"}, {"function", Json::parse(declaration_json(tool, "parameters"))}});
    }
  if (!out.empty()) ask.tools_json = out.dump();
  read_tool_choice(body, ask);
}

void read_form(const Fields& body, Ask& ask) {
  const auto text = body.object("text");
  const auto format = text ? text->object("format") : std::nullopt;
  if (!format) return;
  const std::string type = format->need_text("type");
  if (type == "text") return;
  if (type != "json_object" && type != "json_schema")
    format->refuse("expected type text, json_object or json_schema");
  ask.form = type == "json_object" ? AnswerForm::kJsonObject : AnswerForm::kJsonSchema;
  ask.schema_json = format->json("schema");
  if (type == "json_schema" && ask.schema_json.empty()) format->refuse("schema is required");
}

std::string echoed(const Fields& body) {
  Json out{{"instructions", nullptr},    {"max_output_tokens", nullptr},
           {"metadata", Json::object()}, {"parallel_tool_calls", true},
           {"temperature", nullptr},     {"tool_choice", "auto"},
           {"tools", Json::array()},     {"top_p", nullptr},
           {"reasoning", nullptr},       {"text", {{"format", {{"type", "text"}}}}}};
  for (auto& [name, value] : out.items())
    if (const std::string given = body.json(name.c_str()); !given.empty())
      value = Json::parse(given);
  return out.dump();
}

}  // namespace

ResponseAsk read_response(const Fields& body) {
  ResponseAsk out;
  Ask& ask = out.ask;
  for (const char* name : {"previous_response_id", "conversation", "prompt"})
    if (body.has(name))
      refuse_field(name, "is not supported: this server keeps nothing; send the whole input");
  if (body.flag("background").value_or(false)) refuse_field("background", "is not supported");
  read_sampling(body, ask);
  ask.n = 1;
  ask.chat_param = "input";
  ask.messages_json = messages_json(body);
  ask.max_tokens = body.integer("max_output_tokens", 1, kMostTokens);
  read_tools(body, ask);
  read_form(body, ask);
  const auto reasoning = body.object("reasoning");
  if (const auto effort = reasoning ? reasoning->member("effort") : std::nullopt)
    ask.thinking = thinks(*effort);
  out.echoed_json = echoed(body);
  return out;
}

void responses(const Call& call) {
  const ResponseAsk asked = read_response(Fields::parse(call.request.body));
  ModelUse use = call.models.use(asked.ask.model);
  auto writer = make_response_writer(asked, use.name);
  start_answering(asked.ask, std::move(use), std::move(writer), call.exchange, call.metrics,
                  call.options);
}

}  // namespace lapidary::server
