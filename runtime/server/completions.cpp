// POST /v1/completions: text that goes on, without a chat template.
#include <nlohmann/json.hpp>

#include "runtime/server/ask_fields.h"
#include "runtime/server/chat_writer.h"
#include "runtime/server/endpoint.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxPrompts = 256;
constexpr int64_t kMostTokens = int64_t{1} << 31, kUsualTokens = 16;
constexpr double kLowest = -9999;  // JSON has no infinity

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json logs_of(std::span<const TokenLog> tokens, size_t& offset) {
  Json names = Json::array(), values = Json::array(), best = Json::array(), at = Json::array();
  for (const TokenLog& token : tokens) {
    names.push_back(token.item.text);
    values.push_back(std::max(token.item.log_probability, kLowest));
    at.push_back(offset);
    offset += token.item.text.size();
    Json one = Json::object();
    for (const TokenLog::Item& item : token.best)
      one[item.text] = std::max(item.log_probability, kLowest);
    best.push_back(std::move(one));
  }
  return {{"tokens", std::move(names)},
          {"token_logprobs", std::move(values)},
          {"top_logprobs", std::move(best)},
          {"text_offset", std::move(at)}};
}

struct CompletionAsk {
  Ask ask;
  bool include_usage = false, echo = false;
};

CompletionAsk read_completion(const Fields& body) {
  CompletionAsk out;
  Ask& ask = out.ask;
  read_sampling(body, ask);
  const auto prompt = body.member("prompt");
  if (!prompt) refuse_field("prompt", "is required");
  read_prompts(*prompt, kMaxPrompts, ask);
  ask.max_tokens = body.integer("max_tokens", 1, kMostTokens).value_or(kUsualTokens);
  if (const auto n = body.integer("logprobs", 0, 20))
    ask.n_log_probabilities = static_cast<int>(*n);
  out.echo = body.flag("echo").value_or(false);
  if (out.echo && ask.n_log_probabilities >= 0)
    refuse_field("echo", "does not go with logprobs here");
  if (body.has("suffix")) refuse_field("suffix", "is not supported by this server");
  if (body.integer("best_of", 1, 128).value_or(ask.n) != ask.n)
    refuse_field("best_of", "is supported only when it equals n");
  if (const auto options = body.object("stream_options"))
    out.include_usage = options->flag("include_usage").value_or(false);
  return out;
}

class CompletionWriter : public AnswerWriter {
 public:
  // `echoed`: the prompts as text, or none.
  CompletionWriter(const CompletionAsk& c, std::string model, std::vector<std::string> echoed)
      : model_(std::move(model)),
        echoed_(std::move(echoed)),
        n_(static_cast<size_t>(c.ask.n)),
        n_answers_(n_ * (c.ask.texts.size() + c.ask.token_prompts.size())),
        wants_logs_(c.ask.n_log_probabilities >= 0),
        include_usage_(c.include_usage),
        offsets_(n_answers_) {}

  std::string whole(const std::vector<Answer>& answers, const Usage& usage) override {
    Json choices = Json::array();
    for (size_t i = 0; i < answers.size(); ++i) {
      const Answer& a = answers[i];
      size_t offset = 0;
      choices.push_back(choice(i, echo_of(i) + a.reply.content,
                               wants_logs_ ? logs_of(a.tokens, offset) : Json(), finish(a)));
    }
    Json out = head();
    out["choices"] = std::move(choices);
    out["usage"] = Json::parse(openai_usage(usage));
    return text_of(out);
  }
  void begin(int64_t, std::string& out) override {
    if (echoed_.empty()) return;
    for (size_t i = 0; i < n_answers_; ++i) add_chunk(choice(i, echo_of(i), Json(), nullptr), out);
  }
  void delta(int answer, const ReplyDelta& delta, std::span<const TokenLog> tokens,
             std::string& out) override {
    const auto i = static_cast<size_t>(answer);
    add_chunk(choice(i, delta.text, wants_logs_ ? logs_of(tokens, offsets_[i]) : Json(), nullptr),
              out);
  }
  void end_answer(int index, const Answer& answer, std::string& out) override {
    add_chunk(choice(static_cast<size_t>(index), "", Json(), finish(answer)), out);
  }
  void end(const std::vector<Answer>&, const Usage& usage, std::string& out) override {
    if (include_usage_) {
      Json chunk = head();
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
  static const char* finish(const Answer& answer) {
    return answer.reason == FinishReason::kStop ? "stop" : "length";
  }
  std::string echo_of(size_t i) const { return echoed_.empty() ? std::string() : echoed_[i / n_]; }
  Json head() const {
    return {{"id", id_}, {"object", "text_completion"}, {"created", created_}, {"model", model_}};
  }
  static Json choice(size_t i, const std::string& text, Json logs, const char* finish) {
    return {{"text", text},
            {"index", i},
            {"logprobs", std::move(logs)},
            {"finish_reason", finish ? Json(finish) : Json()}};
  }
  void add_chunk(Json choice, std::string& out) const {
    Json chunk = head();
    chunk["choices"] = Json::array({std::move(choice)});
    if (include_usage_) chunk["usage"] = nullptr;
    append_event(out, "", text_of(chunk));
  }

  const std::string id_ = new_id("cmpl-"), model_;
  const int64_t created_ = seconds_since_1970();
  const std::vector<std::string> echoed_;
  const size_t n_, n_answers_;
  const bool wants_logs_, include_usage_;
  std::vector<size_t> offsets_;  // of each answer's text, in bytes
};

}  // namespace

void completions(const Call& call) {
  const CompletionAsk asked = read_completion(Fields::parse(call.request.body));
  ModelUse use = call.models.use(asked.ask.model);
  std::vector<std::string> echoed;
  if (asked.echo) echoed = asked.ask.texts;
  if (asked.echo)
    for (const auto& ids : asked.ask.token_prompts)
      echoed.push_back(use.model->tokenizer().decode(ids));
  auto writer = std::make_unique<CompletionWriter>(asked, use.name, std::move(echoed));
  start_answering(asked.ask, std::move(use), std::move(writer), call.exchange, call.metrics,
                  call.options);
}

}  // namespace lapidary::server
