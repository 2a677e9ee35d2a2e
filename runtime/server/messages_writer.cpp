// Anthropic's message object and its events: blocks that open, grow and close one after another.
// Source: docs.anthropic.com/en/api/messages-streaming
#include <nlohmann/json.hpp>

#include "runtime/server/messages.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;
using Kind = ReplyDelta::Kind;

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const char* stop_reason(const Answer& answer) {
  if (answer.reason != FinishReason::kStop) return "max_tokens";
  if (!answer.stop.empty()) return "stop_sequence";
  return answer.reply.calls.empty() ? "end_turn" : "tool_use";
}

Json stop_sequence(const Answer& answer) {
  return answer.stop.empty() ? Json() : Json(answer.stop);
}

Json usage_of(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached_tokens},
          {"output_tokens", usage.new_tokens}};
}

// Of a call that was cut there is no object.
Json input_of(const Reply::Call& call) {
  return call.is_complete ? Json::parse(call.arguments_json, nullptr, false) : Json::object();
}

class MessagesWriter : public AnswerWriter {
 public:
  explicit MessagesWriter(std::string model) : model_(std::move(model)) {}

  std::string whole(const std::vector<Answer>& answers, const Usage& usage) override {
    const Answer& answer = answers.front();
    Json content = Json::array();
    if (!answer.reply.reasoning.empty())
      content.push_back(
          {{"type", "thinking"}, {"thinking", answer.reply.reasoning}, {"signature", ""}});
    if (!answer.reply.content.empty())
      content.push_back({{"type", "text"}, {"text", answer.reply.content}});
    for (const Reply::Call& call : answer.reply.calls)
      content.push_back({{"type", "tool_use"},
                         {"id", new_id("toolu_")},
                         {"name", call.name},
                         {"input", input_of(call)}});
    Json out = message(std::move(content), usage);
    out["stop_reason"] = stop_reason(answer);
    out["stop_sequence"] = stop_sequence(answer);
    return text_of(out);
  }

  void begin(int64_t prompt_tokens, std::string& out) override {
    Usage usage;
    usage.prompt_tokens = prompt_tokens;
    add(out, {{"type", "message_start"}, {"message", message(Json::array(), usage)}});
  }

  void delta(int, const ReplyDelta& delta, std::span<const TokenLog>, std::string& out) override {
    switch (delta.kind) {
      case Kind::kReasoning:
        open(Kind::kReasoning, {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}}, out);
        return grow({{"type", "thinking_delta"}, {"thinking", delta.text}}, out);
      case Kind::kContent:
        open(Kind::kContent, {{"type", "text"}, {"text", ""}}, out);
        return grow({{"type", "text_delta"}, {"text", delta.text}}, out);
      case Kind::kCallBegin:
        close(out);
        return open(Kind::kCallBegin,
                    {{"type", "tool_use"},
                     {"id", new_id("toolu_")},
                     {"name", delta.text},
                     {"input", Json::object()}},
                    out);
      case Kind::kCallArguments:
        return grow({{"type", "input_json_delta"}, {"partial_json", delta.text}}, out);
      case Kind::kCallEnd:
        return close(out);
    }
  }

  void end_answer(int, const Answer&, std::string& out) override { close(out); }

  void end(const std::vector<Answer>& answers, const Usage& usage, std::string& out) override {
    const Answer& answer = answers.front();
    add(out, {{"type", "message_delta"},
              {"delta",
               {{"stop_reason", stop_reason(answer)}, {"stop_sequence", stop_sequence(answer)}}},
              {"usage", usage_of(usage)}});
    add(out, {{"type", "message_stop"}});
  }

  void fault(const Fault& fault, std::string& out) override {
    append_event(out, "error", anthropic_error(fault));
  }

 private:
  static void add(std::string& out, const Json& event) {
    append_event(out, event["type"].get<std::string>(), text_of(event));
  }

  Json message(Json content, const Usage& usage) const {
    return {{"id", id_},
            {"type", "message"},
            {"role", "assistant"},
            {"model", model_},
            {"content", std::move(content)},
            {"stop_reason", nullptr},
            {"stop_sequence", nullptr},
            {"usage", usage_of(usage)}};
  }

  // One block at a time; of the same kind, the open one goes on.
  void open(Kind kind, Json block, std::string& out) {
    if (is_open_ && kind_ == kind) return;
    close(out);
    is_open_ = true;
    kind_ = kind;
    add(out,
        {{"type", "content_block_start"}, {"index", index_}, {"content_block", std::move(block)}});
  }
  void grow(Json delta, std::string& out) const {
    add(out, {{"type", "content_block_delta"}, {"index", index_}, {"delta", std::move(delta)}});
  }
  void close(std::string& out) {
    if (!is_open_) return;
    is_open_ = false;
    add(out, {{"type", "content_block_stop"}, {"index", index_++}});
  }

  const std::string id_ = new_id("msg_"), model_;
  bool is_open_ = false;
  Kind kind_ = Kind::kContent;  // of the open block
  int index_ = 0;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_messages_writer(const std::string& model) {
  return std::make_unique<MessagesWriter>(model);
}

}  // namespace lapidary::server
