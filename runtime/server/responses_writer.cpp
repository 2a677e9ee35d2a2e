// Response objects and their events: items that open, grow and close one after another, each event
// with a number.
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/server/responses.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;
using Kind = ReplyDelta::Kind;

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// One item of the output; its text is that of the message, the thought or the arguments.
struct Item {
  Kind kind;
  std::string id, name, call_id, text;

  static Item make(Kind kind, const std::string& name) {
    Item item{kind, "", name, "", ""};
    item.id = new_id(kind == Kind::kReasoning ? "rs_" : kind == Kind::kContent ? "msg_" : "fc_");
    if (kind == Kind::kCallBegin) item.call_id = new_id("call_");
    return item;
  }
  Json part() const {
    if (kind == Kind::kReasoning) return {{"type", "reasoning_text"}, {"text", text}};
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", Json::array()},
            {"logprobs", Json::array()}};
  }
  Json json(const char* status) const {
    const bool is_empty = std::string_view(status) == "in_progress";
    const Json parts = is_empty ? Json::array() : Json::array({part()});
    if (kind == Kind::kReasoning)
      return {{"type", "reasoning"}, {"id", id}, {"summary", Json::array()}, {"content", parts}};
    if (kind == Kind::kContent)
      return {{"type", "message"},
              {"id", id},
              {"status", status},
              {"role", "assistant"},
              {"content", parts}};
    return {{"type", "function_call"}, {"id", id},        {"call_id", call_id}, {"name", name},
            {"arguments", text},       {"status", status}};
  }
};

class ResponseWriter : public AnswerWriter {
 public:
  ResponseWriter(const ResponseAsk& asked, std::string model)
      : model_(std::move(model)), echoed_(Json::parse(asked.echoed_json)) {}

  std::string whole(const std::vector<Answer>& answers, const Usage& usage) override {
    const Reply& reply = answers.front().reply;
    const auto add_item = [&](Kind kind, const std::string& name, const std::string& text) {
      Item item = Item::make(kind, name);
      item.text = text;
      output_.push_back(item.json("completed"));
    };
    if (!reply.reasoning.empty()) add_item(Kind::kReasoning, "", reply.reasoning);
    if (!reply.content.empty()) add_item(Kind::kContent, "", reply.content);
    for (const Reply::Call& call : reply.calls)
      add_item(Kind::kCallBegin, call.name, call.arguments_json);
    return text_of(finished(answers.front(), usage));
  }

  void begin(int64_t, std::string& out) override {
    add(out, "response.created", {{"response", response("in_progress")}});
    add(out, "response.in_progress", {{"response", response("in_progress")}});
  }

  void delta(int, const ReplyDelta& delta, std::span<const TokenLog>, std::string& out) override {
    switch (delta.kind) {
      case Kind::kReasoning:
        open(Kind::kReasoning, "", out);
        return grow("response.reasoning_text.delta", delta.text, out);
      case Kind::kContent:
        open(Kind::kContent, "", out);
        return grow("response.output_text.delta", delta.text, out);
      case Kind::kCallBegin:
        close(out);
        return open(Kind::kCallBegin, delta.text, out);
      case Kind::kCallArguments:
        return grow("response.function_call_arguments.delta", delta.text, out);
      case Kind::kCallEnd:
        return close(out);
    }
  }

  void end_answer(int, const Answer&, std::string& out) override { close(out); }

  void end(const std::vector<Answer>& answers, const Usage& usage, std::string& out) override {
    const Json response = finished(answers.front(), usage);
    add(out, "response." + response["status"].get<std::string>(), {{"response", response}});
  }

  void fault(const Fault& fault, std::string& out) override {
    Json failed = response("failed");
    failed["error"] = {{"code", "server_error"}, {"message", fault.message}};
    add(out, "response.failed", {{"response", std::move(failed)}});
  }

 private:
  void add(std::string& out, const std::string& type, Json fields) {
    Json event{{"type", type}, {"sequence_number", n_events_++}};
    event.update(fields);
    append_event(out, type, text_of(event));
  }

  Json response(const char* status) const {
    Json out{{"id", id_},        {"object", "response"},     {"created_at", created_},
             {"status", status}, {"error", nullptr},         {"incomplete_details", nullptr},
             {"model", model_},  {"output", output_},        {"previous_response_id", nullptr},
             {"store", false},   {"truncation", "disabled"}, {"usage", nullptr}};
    out.update(echoed_);
    return out;
  }

  Json finished(const Answer& answer, const Usage& usage) const {
    const bool is_cut = answer.reason != FinishReason::kStop;
    Json out = response(is_cut ? "incomplete" : "completed");
    if (is_cut) out["incomplete_details"] = {{"reason", "max_output_tokens"}};
    out["usage"] = {{"input_tokens", usage.prompt_tokens},
                    {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
                    {"output_tokens", usage.new_tokens},
                    {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
                    {"total_tokens", usage.prompt_tokens + usage.new_tokens}};
    return out;
  }

  // Where the open item is: what each of its events carries.
  Json place() const {
    Json fields{{"item_id", item_->id}, {"output_index", output_.size()}};
    if (item_->kind != Kind::kCallBegin) fields["content_index"] = 0;
    return fields;
  }
  Json place(const char* name, Json value) const {
    Json fields = place();
    fields[name] = std::move(value);
    return fields;
  }

  void open(Kind kind, const std::string& name, std::string& out) {
    if (item_ && item_->kind == kind) return;
    close(out);
    item_ = Item::make(kind, name);
    add(out, "response.output_item.added",
        {{"output_index", output_.size()}, {"item", item_->json("in_progress")}});
    if (kind != Kind::kCallBegin)
      add(out, "response.content_part.added", place("part", item_->part()));
  }

  void grow(const char* type, const std::string& text, std::string& out) {
    if (!item_) return;
    item_->text += text;
    Json fields = place("delta", text);
    if (item_->kind == Kind::kContent) fields["logprobs"] = Json::array();
    add(out, type, std::move(fields));
  }

  void close(std::string& out) {
    if (!item_) return;
    switch (item_->kind) {
      case Kind::kReasoning:
        add(out, "response.reasoning_text.done", place("text", item_->text));
        break;
      case Kind::kContent: {
        Json fields = place("text", item_->text);
        fields["logprobs"] = Json::array();
        add(out, "response.output_text.done", std::move(fields));
        break;
      }
      default: {
        Json fields = place("arguments", item_->text);
        fields["name"] = item_->name;
        add(out, "response.function_call_arguments.done", std::move(fields));
      }
    }
    if (item_->kind != Kind::kCallBegin)
      add(out, "response.content_part.done", place("part", item_->part()));
    const Json whole = item_->json("completed");
    add(out, "response.output_item.done", {{"output_index", output_.size()}, {"item", whole}});
    output_.push_back(whole);
    item_.reset();
  }

  const std::string id_ = new_id("resp_"), model_;
  const int64_t created_ = seconds_since_1970();
  const Json echoed_;
  Json output_ = Json::array();  // items that are closed
  std::optional<Item> item_;     // the open one
  int n_events_ = 0;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_response_writer(const ResponseAsk& asked,
                                                   const std::string& model) {
  return std::make_unique<ResponseWriter>(asked, model);
}

}  // namespace lapidary::server
