// Rules are compiled outside the lock, so one large schema holds up nobody but its own request.
#include "runtime/server/loaded_model.h"

#include <algorithm>

#include "formats/file.h"
#include "runtime/grammar/vocabulary.h"
#include "runtime/kv_choice.h"
#include "runtime/kv_plan.h"
#include "runtime/speculation.h"

namespace lapidary::server {
namespace {

constexpr size_t kMaxRules = 64;
constexpr uint64_t kMaxRuleBytes = uint64_t{512} << 20;  // of all that are kept

std::string piece_or_empty(const Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? std::string() : std::string(tokenizer.piece(id));
}

SchedulerOptions scheduler_options(const Model& model, const LoadOptions& options,
                                   Assistant* assistant) {
  SchedulerOptions out = options.scheduler;
  out.assistant = assistant;
  out.draft_tokens = tokens_ahead(out.draft_tokens, assistant != nullptr);
  out.kv = kv_for(options.kv, model.file().metadata());
  return out;
}

}  // namespace

uint64_t memory_bytes(const Model& model, const LoadOptions& options) {
  uint64_t bytes = model.file().file_bytes();
  if (model.ple_table) bytes -= std::min(bytes, model.ple_table->bytes);
  if (!options.assistant.empty()) bytes += ReadFile(options.assistant).size_bytes();
  if (options.scheduler.kv_bytes > 0) return bytes + options.scheduler.kv_bytes;
  const KvPlan plan = plan_kv(model.config(), kv_for(options.kv, model.file().metadata()),
                              options.scheduler.context, options.engine.max_batch_tokens);
  return bytes + plan.reserved_bytes * static_cast<uint64_t>(options.scheduler.max_running) +
         options.scheduler.prefix_bytes;
}

LoadedModel::LoadedModel(std::shared_ptr<const Model> model, const LoadOptions& options)
    : model_(std::move(model)),
      sampling_(sampling_from_generation_config(model_->file().metadata().generation_config)),
      engine_(std::make_unique<Engine>(model_, options.engine)),
      assistant_(options.assistant.empty() ? nullptr
                                           : Assistant::load(options.assistant, *engine_)),
      scheduler_(std::make_unique<Scheduler>(
          *engine_, scheduler_options(*model_, options, assistant_.get()))) {
  if (!model_->has_tokenizer())
    fail(ErrorCode::kBadData, "the file has no tokenizer; it cannot serve text");
  const std::string& source = model_->file().metadata().chat_template;
  if (source.empty()) return;
  template_.emplace(source);
  reply_format_ = lapidary::reply_format(source);
}

std::string LoadedModel::render(const ChatRequest& request) const {
  if (!template_)
    fail(ErrorCode::kUsage, "this model has no chat template; /v1/completions takes plain text");
  const std::vector<int32_t>& stops = stop_ids();
  return template_->render(request, piece_or_empty(tokenizer(), bos_id()),
                           piece_or_empty(tokenizer(), stops.empty() ? -1 : stops.front()));
}

std::shared_ptr<const Constraint> LoadedModel::constraint(const std::string& key,
                                                          const Rule& rule) {
  std::shared_ptr<const grammar::Vocabulary> vocabulary;
  {
    std::lock_guard lock(mutex_);
    const auto found = std::find_if(rules_.begin(), rules_.end(),
                                    [&](const CompiledRule& r) { return r.key == key; });
    if (found != rules_.end()) {
      rules_.splice(rules_.begin(), rules_, found);
      return rules_.front().constraint;
    }
    if (!vocabulary_) vocabulary_ = std::make_shared<const grammar::Vocabulary>(tokenizer());
    vocabulary = vocabulary_;
  }
  auto constraint = Constraint::compile(rule, vocabulary, stop_ids());
  std::lock_guard lock(mutex_);
  rules_.push_front({key, constraint});
  uint64_t bytes = 0;
  size_t kept = 0;
  for (auto r = rules_.begin(); r != rules_.end(); ++r, ++kept) {
    bytes += r->constraint->bytes();
    if (kept > 0 && (kept == kMaxRules || bytes > kMaxRuleBytes)) {
      rules_.erase(r, rules_.end());
      break;
    }
  }
  return constraint;
}

std::shared_ptr<const Adapter> LoadedModel::adapter(const std::string& folder) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<const Adapter>& adapter = adapters_[folder];
  if (!adapter) adapter = Adapter::load(folder, *model_);
  return adapter;
}

void LoadedModel::close() { scheduler_.reset(); }

}  // namespace lapidary::server
