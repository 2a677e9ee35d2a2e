// chat.completion and chat.completion.chunk objects.
//
// Thoughts stand in "reasoning_content", as servers of open models have it. A stream's first chunk
// of each answer carries the role, its last one the finish_reason.
#include "runtime/server/chat_writer.h"

#include <nlohmann/json.hpp>
#include <vector>

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json log_item(const TokenLog::Item& item) {
  Json bytes = Json::array();
  for (const char c : item.bytes) bytes.push_back(static_cast<uint8_t>(c));
  // JSON has no infinity: a token that a constraint or bias rules out.
  return {{"token", item.text},
          {"logprob", std::max(item.log_probability, -9999.0)},
          {"bytes", std::move(bytes)}};
}

Json logs_of(std::span<const TokenLog> tokens) {
  Json content = Json::array();
  for (const TokenLog& token : tokens) {
    Json one = log_item(token.item);
    one["top_logprobs"] = Json::array();
    for (const TokenLog::Item& item : token.best) one["top_logprobs"].push_back(log_item(item));
    content.push_back(std::move(one));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

const char* finish_reason(const Answer& answer) {
  if (answer.reason != FinishReason::kStop) return "length";
  return answer.reply.calls.empty() ? "stop" : "tool_calls";
}

class ChatWriter : public AnswerWriter {
 public:
  ChatWriter(const ChatAsk& chat, const std::string& model)
      : model_(model),
        wants_logs_(chat.ask.n_log_probabilities >= 0),
        include_usage_(chat.include_usage),
        has_begun_(static_cast<size_t>(chat.ask.n)) {}

  std::string whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json choices = Json::array();
    for (const Answer& answer : answers) {
      const bool only_calls = answer.reply.content.empty() && !answer.reply.calls.empty();
      Json message{{"role", "assistant"},
                   {"content", only_calls ? Json() : Json(answer.reply.content)},
                   {"refusal", nullptr}};
      if (!answer.reply.reasoning.empty()) message["reasoning_content"] = answer.reply.reasoning;
      for (const Reply::Call& call : answer.reply.calls)
        message["tool_calls"].push_back(
            {{"id", new_id("call_")},
             {"type", "function"},
             {"function", {{"name", call.name}, {"arguments", call.arguments_json}}}});
      choices.push_back({{"index", choices.size()},
                         {"message", std::move(message)},
                         {"logprobs", wants_logs_ ? logs_of(answer.tokens) : Json()},
                         {"finish_reason", finish_reason(answer)}});
    }
    Json out = head("chat.completion");
    out["choices"] = std::move(choices);
    out["usage"] = Json::parse(openai_usage(usage));
    return text_of(out);
  }

  void begin(int64_t, std::string&) override {}

  void delta(int answer, const ReplyDelta& delta, std::span<const TokenLog> tokens,
             std::string& out) override {
    begin_answer(answer, out);
    using Kind = ReplyDelta::Kind;
    Json change = Json::object();
    switch (delta.kind) {
      case Kind::kReasoning:
        change["reasoning_content"] = delta.text;
        break;
      case Kind::kContent:
        change["content"] = delta.text;
        break;
      case Kind::kCallBegin:
        change["tool_calls"] = {{{"index", delta.call_index},
                                 {"id", new_id("call_")},
                                 {"type", "function"},
                                 {"function", {{"name", delta.text}, {"arguments", ""}}}}};
        break;
      case Kind::kCallArguments:
        change["tool_calls"] = {
            {{"index", delta.call_index}, {"function", {{"arguments", delta.text}}}}};
        break;
      case Kind::kCallEnd:
        if (tokens.empty()) return;
    }
    add_chunk(answer, std::move(change), wants_logs_ && !tokens.empty() ? logs_of(tokens) : Json(),
              nullptr, out);
  }

  void end_answer(int index, const Answer& answer, std::string& out) override {
    begin_answer(index, out);
    add_chunk(index, Json::object(), Json(), finish_reason(answer), out);
  }

  void end(const std::vector<Answer>&, const Usage& usage, std::string& out) override {
    if (include_usage_) {
      Json chunk = head("chat.completion.chunk");
      chunk["choices"] = Json::array();
      chunk["usage"] = Json::parse(openai_usage(usage));
      append_event(out, "", text_of(chunk));
    }
    append_event(out, "", "[DONE]");
  }

  void fault(const Fault& fault, std::string& out) override {
    append_event(out, "", openai_error(fault));
    append_event(out, "", "[DONE]");
  }

 private:
  Json head(const char* object) const {
    return {{"id", id_}, {"object", object}, {"created", created_}, {"model", model_}};
  }

  void begin_answer(int index, std::string& out) {
    if (has_begun_[static_cast<size_t>(index)]) return;
    has_begun_[static_cast<size_t>(index)] = true;
    add_chunk(index, {{"role", "assistant"}, {"content", ""}}, Json(), nullptr, out);
  }

  void add_chunk(int index, Json change, Json logs, const char* finish, std::string& out) const {
    Json choice{{"index", index},
                {"delta", std::move(change)},
                {"logprobs", std::move(logs)},
                {"finish_reason", finish ? Json(finish) : Json()}};
    Json chunk = head("chat.completion.chunk");
    chunk["choices"] = Json::array({std::move(choice)});
    if (include_usage_) chunk["usage"] = nullptr;
    append_event(out, "", text_of(chunk));
  }

  const std::string id_ = new_id("chatcmpl-"), model_;
  const int64_t created_ = seconds_since_1970();
  const bool wants_logs_, include_usage_;
  std::vector<bool> has_begun_;
};

}  // namespace

std::string openai_usage(const Usage& usage) {
  return Json{{"prompt_tokens", usage.prompt_tokens},
              {"completion_tokens", usage.new_tokens},
              {"total_tokens", usage.prompt_tokens + usage.new_tokens},
              {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
              {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}}}
      .dump();
}

std::unique_ptr<AnswerWriter> make_chat_writer(const ChatAsk& chat, const std::string& model) {
  return std::make_unique<ChatWriter>(chat, model);
}

}  // namespace lapidary::server
