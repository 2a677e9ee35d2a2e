// See the header.
#include "tests/runtime/server/fake_models.h"

#include "formats/file.h"
#include "runtime/server/api_error.h"
#include "tests/test_data.h"

namespace lapidary::server {

FakeModel::FakeModel()
    : tokenizer_(Tokenizer::from_json(read_text(data_path("nano-e/tokenizer.json")), 8192)),
      template_(read_text(data_path("nano-e/chat_template.jinja"))) {}

FakeModel::~FakeModel() {
  for (std::thread& thread : threads_) thread.join();
}

std::string FakeModel::render(const ChatRequest& request) const {
  rendered_ = request;
  return template_.render(request, "<bos>", "<eos>");
}

std::shared_ptr<const Constraint> FakeModel::constraint(const std::string& key, const Rule&) {
  rule_keys.push_back(key);
  return nullptr;
}

RequestId FakeModel::submit(Request request) {
  std::lock_guard lock(mutex_);
  const size_t index = requests_.size();
  if (refuses_after >= 0 && static_cast<int>(index) >= refuses_after)
    fail(ErrorCode::kBusy, "256 requests are waiting");
  requests_.push_back(request);
  if (!waits) threads_.emplace_back([this, index, request] { run(index, request); });
  return index + 1;
}

void FakeModel::cancel(RequestId id) {
  std::unique_lock lock(mutex_);
  cancelled_.push_back(id);
  if (!waits) return;
  const Request request = requests_[id - 1];
  lock.unlock();
  Finish finish;
  finish.reason = FinishReason::kCancelled;
  request.on_finish(finish);
}

void FakeModel::run(size_t index, const Request& request) {
  Finish finish = ending;
  finish.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (request.wants_mean_state) finish.mean_state = {3, 0, -4, 0};
  std::vector<int32_t> ids = tokenizer_.encode(says(index));
  ids.push_back(6);
  for (const int32_t id : ids) {
    if (finish.new_tokens == request.max_tokens) {
      finish.reason = FinishReason::kLength;
      break;
    }
    TokenEvent event{id, -0.5f, {}};
    for (int i = 0; i < request.n_log_probabilities; ++i) event.best.push_back({-0.5f - i, id + i});
    ++finish.new_tokens;
    if (!request.on_token(event)) break;
  }
  request.on_finish(finish);
}

std::vector<Request> FakeModel::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

std::vector<RequestId> FakeModel::cancelled() const {
  std::lock_guard lock(mutex_);
  return cancelled_;
}

ModelUse FakeModels::use(const std::string& name) {
  if (name.empty() || name == "fake") return {"fake", model, nullptr};
  if (name == "tuned") return {"tuned", model, nullptr};
  throw ApiError({404, "no such model", "model", "model_not_found"});
}

}  // namespace lapidary::server
