// POST /v1/embeddings: the mean of the final norm's output over a text's tokens, scaled to
// length 1.
//
// Inputs are submitted a few at a time, so that a long list does not fill the queue.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/server/ask_fields.h"
#include "runtime/server/endpoint.h"
#include "runtime/server/prompts.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxInputs = 2048, kAtOnce = 8;

std::string base64(const void* data, size_t n_bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto* bytes = static_cast<const uint8_t*>(data);
  std::string out;
  for (size_t i = 0; i < n_bytes; i += 3) {
    const size_t n = std::min<size_t>(3, n_bytes - i);
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j) bits = bits << 8 | (j < n ? bytes[i + j] : 0u);
    for (size_t j = 0; j < 4; ++j) out += j <= n ? kDigits[bits >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

void normalize(std::vector<float>& vector) {
  double sum = 0;
  for (const float x : vector) sum += double(x) * x;
  const double scale = sum > 0 ? 1 / std::sqrt(sum) : 0;
  for (float& x : vector) x = static_cast<float>(x * scale);
}

class Embedding : public std::enable_shared_from_this<Embedding> {
 public:
  Embedding(ModelUse use, Prompts prompts, bool is_base64, const Call& call)
      : use_(std::move(use)),
        prompts_(std::move(prompts)),
        is_base64_(is_base64),
        exchange_(call.exchange),
        account_(call.options.account),
        deadline_(Clock::now() + call.options.answer_limit),
        vectors_(prompts_.tokens.size()) {}

  void start() {
    for (size_t i = 0; i < std::min(kAtOnce, vectors_.size()); ++i) submit_next();
    exchange_->on_gone([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->leave();
    });
  }

 private:
  void submit_next() {
    size_t i;
    {
      std::lock_guard lock(mutex_);
      if (is_over_ || n_submitted_ == vectors_.size()) return;
      i = n_submitted_++;
    }
    Request request;
    request.prompt = prompts_.tokens[i];
    request.max_tokens = 0;
    request.wants_mean_state = true;
    request.adapter = use_.adapter;
    request.account = account_;
    request.deadline = deadline_;
    request.on_token = [](const TokenEvent&) { return false; };
    request.on_finish = [self = shared_from_this(), i](const Finish& f) { self->on_finish(i, f); };
    try {
      use_.model->submit(std::move(request));
    } catch (const std::exception& e) {
      fault(fault_of(e));
    }
  }

  void on_finish(size_t i, const Finish& finish) {
    if (finish.reason == FinishReason::kDeadline) return fault({504, "out of time"});
    if (finish.reason == FinishReason::kCancelled) return fault({503, "the server is closing"});
    if (finish.reason == FinishReason::kError) return fault({500, finish.error});
    bool is_last;
    {
      std::lock_guard lock(mutex_);
      vectors_[i] = finish.mean_state;
      normalize(vectors_[i]);
      n_tokens_ += finish.prompt_tokens;
      is_last = ++n_done_ == vectors_.size();
    }
    is_last ? respond() : submit_next();
  }

  void respond() {
    Json data = Json::array();
    for (const std::vector<float>& vector : vectors_)
      data.push_back({{"object", "embedding"},
                      {"index", data.size()},
                      {"embedding", is_base64_ ? Json(base64(vector.data(), vector.size() * 4))
                                               : Json(vector)}});
    HttpResponse response;
    response.body = Json{{"object", "list"},
                         {"data", std::move(data)},
                         {"model", use_.name},
                         {"usage", {{"prompt_tokens", n_tokens_}, {"total_tokens", n_tokens_}}}}
                        .dump();
    exchange_->respond(std::move(response));
  }

  void fault(const Fault& fault) {
    if (leave()) exchange_->respond(error_response(fault));
  }

  // The few that are with the scheduler are short: they may end by themselves. True: the first
  // time.
  bool leave() {
    std::lock_guard lock(mutex_);
    return !std::exchange(is_over_, true);
  }

  const ModelUse use_;
  const Prompts prompts_;
  const bool is_base64_;
  const std::shared_ptr<Exchange> exchange_;
  const std::string account_;
  const Clock::time_point deadline_;

  std::mutex mutex_;
  std::vector<std::vector<float>> vectors_;
  size_t n_submitted_ = 0, n_done_ = 0;
  int64_t n_tokens_ = 0;
  bool is_over_ = false;
};

}  // namespace

void embeddings(const Call& call) {
  const Fields body = Fields::parse(call.request.body);
  Ask ask;
  const auto input = body.member("input");
  if (!input) refuse_field("input", "is required");
  read_prompts(*input, kMaxInputs, ask);
  const std::string encoding = body.text("encoding_format").value_or("float");
  if (encoding != "float" && encoding != "base64")
    refuse_field("encoding_format", "expected float or base64");
  ModelUse use = call.models.use(body.text("model").value_or(""));
  if (const auto n = body.integer("dimensions", 1, INT32_MAX); n && *n != use.model->d_model())
    refuse_field("dimensions", "this model's embeddings have " +
                                   std::to_string(use.model->d_model()) + ", no fewer");
  Prompts prompts = make_prompts(ask, *use.model);
  check_prompts(prompts, *use.model, 0, "input");
  std::make_shared<Embedding>(std::move(use), std::move(prompts), encoding == "base64", call)
      ->start();
}

}  // namespace lapidary::server
