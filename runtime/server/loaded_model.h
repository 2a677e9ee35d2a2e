// A model that answers: the mapped file, its engine and scheduler, its template, and the rules that
// were compiled for it.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "runtime/engine.h"
#include "runtime/scheduler/scheduler.h"
#include "runtime/server/served_model.h"

namespace lapidary::server {

struct LoadOptions {
  EngineOptions engine;
  SchedulerOptions scheduler;   // its `kv` and `assistant` come from the next lines
  std::optional<KvOptions> kv;  // none: the file's own choice
  std::string assistant;        // path; empty: none. Guesses kAssistantTokens unless told
};

// Memory that a model takes once it serves: its file without the table of per-layer embeddings,
// which is read from disk, its assistant's, and its sequences.
uint64_t memory_bytes(const Model& model, const LoadOptions& options);

class LoadedModel : public ServedModel {
 public:
  LoadedModel(std::shared_ptr<const Model> model, const LoadOptions& options);

  const Tokenizer& tokenizer() const override { return model_->tokenizer(); }
  int64_t vocab_size() const override { return model_->config().vocab_size; }
  int64_t d_model() const override { return model_->config().d_model; }
  int64_t context() const override { return scheduler_->options().context; }
  int32_t bos_id() const override { return model_->config().bos_id; }
  const std::vector<int32_t>& stop_ids() const override { return model_->config().eos_ids; }
  SamplingOptions sampling() const override { return sampling_; }
  std::string render(const ChatRequest& request) const override;
  ReplyFormat reply_format() const override { return reply_format_; }
  std::shared_ptr<const Constraint> constraint(const std::string& key, const Rule& rule) override;
  RequestId submit(Request request) override { return scheduler_->submit(std::move(request)); }
  void cancel(RequestId id) override { scheduler_->cancel(id); }

  SchedulerCounters counters() const { return scheduler_->counters(); }
  // The adapter in `folder`, loaded the first time. Throws as Adapter::load().
  std::shared_ptr<const Adapter> adapter(const std::string& folder);
  // Cancels what runs and ends the scheduler's thread: what still holds the model may then go on
  // any thread. Nothing else may be called after.
  void close();

 private:
  struct CompiledRule {
    std::string key;
    std::shared_ptr<const Constraint> constraint;
  };

  const std::shared_ptr<const Model> model_;
  const SamplingOptions sampling_;
  std::optional<ChatTemplate> template_;
  ReplyFormat reply_format_ = ReplyFormat::kPlain;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Assistant> assistant_;  // null: none
  std::unique_ptr<Scheduler> scheduler_;

  std::mutex mutex_;
  std::shared_ptr<const grammar::Vocabulary> vocabulary_;           // made when first needed
  std::list<CompiledRule> rules_;                                   // most recently used first
  std::map<std::string, std::shared_ptr<const Adapter>> adapters_;  // by folder
};

}  // namespace lapidary::server
