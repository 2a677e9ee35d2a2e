// One mutex guards what the scheduler's thread and the submitting one share; it is never held while
// the scheduler is called. What comes before all requests are submitted waits in `early_`.
#include "runtime/server/answering.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <optional>

#include "runtime/server/answer_rule.h"
#include "runtime/server/answer_stream.h"
#include "runtime/server/prompts.h"
#include "runtime/text/reply_families.h"

namespace lapidary::server {
namespace {

// Llama 3 writes calls as bare JSON: without tools an answer in JSON is none.
ReplyFormat format_of(const Ask& ask, ReplyFormat of_model) {
  const bool has_tools = !ask.tools_json.empty() && ask.tool_choice != ToolChoice::kNone;
  if (!ask.is_chat() || (of_model == ReplyFormat::kLlama3 && !has_tools))
    return ReplyFormat::kPlain;
  return of_model;
}

constexpr float kNever = -1e4f;  // added to a logit

// Who may not call does not begin to, where calls begin with a token of their own.
std::optional<int32_t> forbidden_token(const Ask& ask, const ServedModel& model) {
  if (!ask.is_chat() || ask.tool_choice != ToolChoice::kNone) return std::nullopt;
  switch (model.reply_format()) {
    case ReplyFormat::kGemma4:
      return model.tokenizer().id_of(kGemma4Markers.call_begin);
    case ReplyFormat::kFunctionGemma:
      return model.tokenizer().id_of(kFunctionGemmaMarkers.call_begin);
    case ReplyFormat::kQwen3:
      return model.tokenizer().id_of("<tool_call>");
    default:
      return std::nullopt;
  }
}

constexpr size_t kTailBytes = 64;  // of a prompt, for the reply's parser

class Answering : public std::enable_shared_from_this<Answering> {
 public:
  Answering(const Ask& ask, ModelUse use, std::unique_ptr<AnswerWriter> writer,
            std::shared_ptr<Exchange> exchange, Metrics& metrics, const AnsweringOptions& options)
      : ask_(ask),
        use_(std::move(use)),
        writer_(std::move(writer)),
        exchange_(std::move(exchange)),
        metrics_(metrics),
        options_(options) {}

  void start() {
    const Prompts prompts = make_prompts(ask_, *use_.model);
    check_prompts(prompts, *use_.model, 1, ask_.is_chat() ? ask_.chat_param : "prompt");
    const std::string tail = prompts.chat_text.substr(
        prompts.chat_text.size() - std::min(prompts.chat_text.size(), kTailBytes));
    prepare(prompts, tail);
    submit(prompts, tail);
    const std::weak_ptr<Answering> weak = weak_from_this();
    exchange_->on_gone([weak] {
      if (const auto self = weak.lock()) self->cancel();
    });
  }

 private:
  void prepare(const Prompts& prompts, const std::string& tail) {
    const ReplyFormat format = format_of(ask_, use_.model->reply_format());
    const AnswerSource source{use_.model->tokenizer(), use_.model->stop_ids(), format, tail};
    for (const auto& prompt : prompts.tokens) {
      usage_.prompt_tokens += static_cast<int64_t>(prompt.size());
      for (int i = 0; i < ask_.n; ++i) streams_.emplace_back(source, ask_);
    }
    last_token_.resize(streams_.size());
    n_left_ = streams_.size();
    if (ask_.stream) writer_->begin(usage_.prompt_tokens, early_);
  }

  Request common_request(const std::string& tail) const {
    const ServedModel& model = *use_.model;
    Request request;
    request.sampling = sampling_of(ask_.sampling, model.sampling());
    request.logit_bias = ask_.logit_bias;
    for (const auto& [id, bias] : ask_.logit_bias)
      if (id < 0 || id >= model.vocab_size())
        refuse_field("logit_bias", "token " + std::to_string(id) + " is outside the vocabulary");
    if (const auto token = forbidden_token(ask_, model))
      request.logit_bias.emplace_back(*token, kNever);
    request.stop_ids = model.stop_ids();
    request.constraint = constraint(tail);
    request.adapter = use_.adapter;
    request.n_log_probabilities = ask_.n_log_probabilities;
    request.account = options_.account;
    request.deadline = start_ + options_.answer_limit;
    return request;
  }

  // A rule that cannot be had is the request's fault, not the machine's.
  std::shared_ptr<const Constraint> constraint(const std::string& tail) const {
    const char* param = ask_.tools_json.empty() ? "response_format" : "tools";
    try {
      const auto rule = answer_rule(ask_, use_.model->reply_format(), tail);
      return rule ? use_.model->constraint(rule->key, rule->rule) : nullptr;
    } catch (const Error& e) {
      throw ApiError({400, std::string("the answer's form: ") + e.what(), param});
    }
  }

  void submit(const Prompts& prompts, const std::string& tail) {
    const Request common = common_request(tail);
    const auto self = shared_from_this();
    try {
      for (size_t i = 0; i < streams_.size(); ++i) {
        Request request = common;
        request.prompt = prompts.tokens[i / static_cast<size_t>(ask_.n)];
        const int64_t room = use_.model->context() - static_cast<int64_t>(request.prompt.size());
        request.max_tokens = std::min(ask_.max_tokens.value_or(room), room);
        request.sampling.seed += i % static_cast<size_t>(ask_.n);
        request.on_token = [self, i](const TokenEvent& event) { return self->on_token(i, event); };
        request.on_finish = [self, i](const Finish& finish) { self->on_finish(i, finish); };
        ids_.push_back(use_.model->submit(std::move(request)));
      }
    } catch (...) {
      cancel();
      throw;
    }
    std::lock_guard lock(mutex_);
    is_begun_ = true;
    if (fault_) return exchange_->respond(error_response(*fault_, options_.is_anthropic));
    if (ask_.stream) {
      HttpResponse head;
      head.content_type = "text/event-stream; charset=utf-8";
      head.headers.push_back({"Cache-Control", "no-cache"});
      head.body = std::move(early_);
      exchange_->begin_stream(std::move(head));
    }
    if (n_left_ == 0) end();
  }

  // REQUIRES: no lock held; not called before submit() is through with ids_, but by submit().
  void cancel() {
    {
      std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    for (const RequestId id : ids_) use_.model->cancel(id);
  }

  bool on_token(size_t i, const TokenEvent& event) {
    std::lock_guard lock(mutex_);
    if (is_over_) return false;
    const auto now = Clock::now();
    if (last_token_[i]) metrics_.time_between_tokens.observe(seconds(now - *last_token_[i]));
    last_token_[i] = now;
    std::vector<AnswerStream::Piece> pieces;
    const bool goes_on = streams_[i].push(event, pieces);
    tell(i, pieces);
    return goes_on;
  }

  void on_finish(size_t i, const Finish& finish) {
    std::lock_guard lock(mutex_);
    --n_left_;
    if (is_over_) return;
    if (finish.new_tokens > 0) metrics_.time_to_first_token.observe(finish.seconds_to_first);
    metrics_.answer_seconds.observe(seconds(Clock::now() - start_));
    if (finish.reason == FinishReason::kError || finish.reason == FinishReason::kCancelled ||
        finish.reason == FinishReason::kDeadline) {
      is_over_ = true;
      fault_ = fault_of_finish(finish);
      if (is_begun_) answer_fault();
      return;
    }
    std::vector<AnswerStream::Piece> pieces;
    streams_[i].finish(finish, pieces);
    tell(i, pieces);
    const Answer& answer = streams_[i].answer();
    usage_.new_tokens += answer.new_tokens;
    usage_.reasoning_tokens += answer.reasoning_tokens;
    if (i % static_cast<size_t>(ask_.n) == 0) usage_.cached_tokens += finish.cached_tokens;
    if (ask_.stream) {
      std::string events;
      writer_->end_answer(static_cast<int>(i), answer, events);
      send(std::move(events));
    }
    if (n_left_ == 0 && is_begun_) end();
  }

  Fault fault_of_finish(const Finish& finish) const {
    if (finish.reason == FinishReason::kDeadline)
      return {504, fmt::format("the answer took longer than {} s", options_.answer_limit.count())};
    if (finish.reason == FinishReason::kCancelled) return {503, "the server is closing"};
    return {500, finish.error};
  }

  // REQUIRES of those below: the lock is held.
  void tell(size_t i, const std::vector<AnswerStream::Piece>& pieces) {
    if (!ask_.stream || pieces.empty()) return;
    std::string events;
    for (const auto& [delta, tokens] : pieces)
      writer_->delta(static_cast<int>(i), delta, tokens, events);
    send(std::move(events));
  }

  void send(std::string events) {
    if (is_begun_)
      exchange_->write(std::move(events));
    else
      early_ += events;
  }

  void end() {
    is_over_ = true;
    std::vector<Answer> answers;
    for (AnswerStream& stream : streams_) answers.push_back(stream.take());
    if (!ask_.stream) {
      HttpResponse response;
      response.body = writer_->whole(answers, usage_);
      return exchange_->respond(std::move(response));
    }
    std::string events;
    writer_->end(answers, usage_, events);
    exchange_->write(std::move(events));
    exchange_->end_stream();
  }

  void answer_fault() {
    if (!ask_.stream) return exchange_->respond(error_response(*fault_, options_.is_anthropic));
    std::string events;
    writer_->fault(*fault_, events);
    exchange_->write(std::move(events));
    exchange_->end_stream();
  }

  static double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

  const Ask ask_;
  const ModelUse use_;
  const std::unique_ptr<AnswerWriter> writer_;
  const std::shared_ptr<Exchange> exchange_;
  Metrics& metrics_;
  const AnsweringOptions options_;
  const Clock::time_point start_ = Clock::now();
  std::vector<RequestId> ids_;

  std::mutex mutex_;
  std::vector<AnswerStream> streams_;  // prompt by prompt, n each
  std::vector<std::optional<Clock::time_point>> last_token_;
  Usage usage_;
  std::optional<Fault> fault_;
  std::string early_;
  size_t n_left_ = 0;
  bool is_begun_ = false, is_over_ = false;
};

}  // namespace

void start_answering(const Ask& ask, ModelUse use, std::unique_ptr<AnswerWriter> writer,
                     std::shared_ptr<Exchange> exchange, Metrics& metrics,
                     const AnsweringOptions& options) {
  std::make_shared<Answering>(ask, std::move(use), std::move(writer), std::move(exchange), metrics,
                              options)
      ->start();
}

}  // namespace lapidary::server
