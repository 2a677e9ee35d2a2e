// A model that says what the test tells it to, with nano-e's tokenizer and template.
//
// Requests are answered on a thread of their own, as a scheduler's are.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/server/served_model.h"

namespace lapidary::server {

class FakeModel : public ServedModel {
 public:
  FakeModel();
  ~FakeModel() override;

  const Tokenizer& tokenizer() const override { return tokenizer_; }
  int64_t vocab_size() const override { return tokenizer_.vocab_size(); }
  int64_t d_model() const override { return 4; }
  int64_t context() const override { return context_; }
  int32_t bos_id() const override { return 2; }
  const std::vector<int32_t>& stop_ids() const override { return stop_ids_; }
  SamplingOptions sampling() const override { return {}; }
  std::string render(const ChatRequest& request) const override;
  ReplyFormat reply_format() const override { return format_; }
  std::shared_ptr<const Constraint> constraint(const std::string& key, const Rule& rule) override;
  RequestId submit(Request request) override;
  void cancel(RequestId id) override;

  // What answers are made of: their text for the i-th request, and how they end.
  std::function<std::string(size_t)> says = [](size_t) { return "Hello there, friend."; };
  Finish ending;
  bool waits = false;      // submitted requests stay until they are cancelled
  int refuses_after = -1;  // kBusy from this request on
  ReplyFormat format_ = ReplyFormat::kGemma4;
  int64_t context_ = 512;

  // What was asked.
  std::vector<Request> requests() const;
  std::vector<RequestId> cancelled() const;
  ChatRequest rendered() const { return rendered_; }
  std::vector<std::string> rule_keys;

 private:
  void run(size_t index, const Request& request);

  Tokenizer tokenizer_;
  ChatTemplate template_;
  std::vector<int32_t> stop_ids_{1, 6, 14};
  mutable ChatRequest rendered_;
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::vector<RequestId> cancelled_;
  std::vector<std::thread> threads_;
};

class FakeModels : public ModelDirectory {
 public:
  std::vector<ModelEntry> list() const override {
    return {{"fake", "", 1000, true, 512}, {"tuned", "fake", 1000, true, 512}};
  }
  ModelUse use(const std::string& name) override;
  std::vector<std::pair<std::string, SchedulerCounters>> counters() const override {
    SchedulerCounters counters;
    counters.new_tokens = 7;
    return {{"fake", counters}};
  }
  std::shared_ptr<FakeModel> model = std::make_shared<FakeModel>();
};

}  // namespace lapidary::server
