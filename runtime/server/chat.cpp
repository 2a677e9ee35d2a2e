// POST /v1/chat/completions: what it reads. chat_writer.cpp is what it says.
#include "runtime/server/ask_fields.h"
#include "runtime/server/chat_messages.h"
#include "runtime/server/chat_writer.h"
#include "runtime/server/endpoint.h"

namespace lapidary::server {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 31;

void read_form(const Fields& body, Ask& ask) {
  const auto format = body.object("response_format");
  if (!format) return;
  const std::string type = format->need_text("type");
  if (type == "text") return;
  if (type == "json_object") {
    ask.form = AnswerForm::kJsonObject;
    return;
  }
  if (type != "json_schema") format->refuse("expected type text, json_object or json_schema");
  const auto named = format->object("json_schema");
  if (!named) format->refuse("expected a json_schema");
  ask.schema_json = named->json("schema");
  ask.form = ask.schema_json.empty() ? AnswerForm::kJsonObject : AnswerForm::kJsonSchema;
}

void read_thinking(const Fields& body, Ask& ask) {
  if (const auto effort = body.member("reasoning_effort")) ask.thinking = thinks(*effort);
  const auto variables = body.object("chat_template_kwargs");
  if (!variables) return;
  ask.template_json = variables->json();
  if (const auto thinking = variables->flag("enable_thinking")) ask.thinking = thinking;
}

void read_log_probabilities(const Fields& body, Ask& ask) {
  const auto top = body.integer("top_logprobs", 0, 20);
  if (body.flag("logprobs").value_or(false))
    ask.n_log_probabilities = static_cast<int>(top.value_or(0));
  else if (top)
    refuse_field("top_logprobs", "needs logprobs to be true");
}

}  // namespace

ChatAsk read_chat(const Fields& body) {
  ChatAsk chat;
  Ask& ask = chat.ask;
  read_sampling(body, ask);
  ask.messages_json = chat_messages(body);
  ask.max_tokens = body.integer("max_completion_tokens", 1, kMostTokens);
  if (!ask.max_tokens) ask.max_tokens = body.integer("max_tokens", 1, kMostTokens);
  ask.tools_json = chat_tools(body);
  read_tool_choice(body, ask);
  read_form(body, ask);
  read_thinking(body, ask);
  read_log_probabilities(body, ask);
  if (const auto options = body.object("stream_options"))
    chat.include_usage = options->flag("include_usage").value_or(false);
  return chat;
}

void chat_completions(const Call& call) {
  const ChatAsk chat = read_chat(Fields::parse(call.request.body));
  ModelUse use = call.models.use(chat.ask.model);
  auto writer = make_chat_writer(chat, use.name);
  start_answering(chat.ask, std::move(use), std::move(writer), call.exchange, call.metrics,
                  call.options);
}

}  // namespace lapidary::server
