// A Scorer over an Engine: one model, one adapter or none, one sequence at a time for text and
// several at once for answers. Batching changes speed only: the engine's logits do not depend on
// the batch.
#include <algorithm>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/hash.h"
#include "runtime/kv_choice.h"
#include "runtime/verify/scorer.h"

namespace lapidary {
namespace {

// Answers decoded side by side. Prompts of tasks are short; 16 sequences fill the matrix kernels.
constexpr size_t kMaxLanes = 16;

class EngineScorer final : public Scorer {
 public:
  EngineScorer(const std::string& model_path, const EngineScorerOptions& options)
      : model_(Model::load(model_path)),
        engine_(model_, options.engine),
        kv_(kv_for(options.kv, metadata())) {
    identity_ = fmt::format("{} kv={} activations={}", model_->file().content_hash(), describe(kv_),
                            static_cast<int>(options.engine.activations));
    if (!options.adapter_folder.empty()) {
      adapter_ = Adapter::load(options.adapter_folder, *model_);
      identity_ += " adapter=" + adapter_identity(options.adapter_folder);
    }
  }

  const Tokenizer& tokenizer() const override { return model_->tokenizer(); }
  int64_t vocab_size() const override { return model_->config().vocab_size; }
  const ModelMetadata& metadata() const override { return model_->file().metadata(); }
  std::string identity() const override { return identity_; }
  int64_t max_chunk() const override {
    return std::min(engine_.options().max_batch_tokens, engine_.options().max_logits);
  }

  void begin(int64_t capacity) override {
    if (sequence_ && sequence_->capacity() >= capacity)
      sequence_->truncate(0);
    else
      sequence_ = engine_.new_sequence(capacity, kv_);
  }

  std::span<const float> append(std::span<const int32_t> tokens, int64_t n) override {
    const BatchItem item{sequence_.get(), tokens, static_cast<int64_t>(tokens.size()) - n,
                         adapter_.get()};
    return engine_.step({&item, 1});
  }

  std::vector<std::vector<int32_t>> answer_all(std::span<const GreedyRequest> requests,
                                               std::span<const int32_t> stop_ids,
                                               const std::function<void(size_t)>& done) override;

 private:
  // One answer under way. `pending` are tokens not yet given to the engine: the prompt, then the
  // last token chosen.
  struct Lane {
    size_t request = 0;
    std::unique_ptr<Sequence> sequence;
    std::span<const int32_t> pending;
    bool busy = false;
  };

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const Adapter> adapter_;
  Engine engine_;
  KvOptions kv_;
  std::unique_ptr<Sequence> sequence_;
  std::string identity_;
};

std::vector<std::vector<int32_t>> EngineScorer::answer_all(
    std::span<const GreedyRequest> requests, std::span<const int32_t> stop_ids,
    const std::function<void(size_t)>& done) {
  std::vector<std::vector<int32_t>> answers(requests.size());
  std::vector<Lane> lanes(std::min({kMaxLanes, requests.size(), static_cast<size_t>(max_chunk())}));
  size_t next = 0, finished = 0;

  const auto start = [&](Lane& lane) {
    lane.busy = next < requests.size();
    if (!lane.busy) return;
    const GreedyRequest& request = requests[next];
    const int64_t capacity = static_cast<int64_t>(request.prompt.size()) + request.max_tokens;
    if (lane.sequence && lane.sequence->capacity() >= capacity)
      lane.sequence->truncate(0);
    else
      lane.sequence = engine_.new_sequence(capacity, kv_);
    lane.request = next++;
    lane.pending = request.prompt;
    answers[lane.request].reserve(
        static_cast<size_t>(request.max_tokens));  // `pending` points into it
  };
  const auto choose = [&](Lane& lane, int32_t token) {
    std::vector<int32_t>& answer = answers[lane.request];
    const auto limit = static_cast<size_t>(requests[lane.request].max_tokens);
    const bool stop = std::find(stop_ids.begin(), stop_ids.end(), token) != stop_ids.end();
    if (!stop && answer.size() < limit) answer.push_back(token);
    if (!stop && answer.size() < limit) {
      lane.pending = std::span(answer).last(1);
      return;
    }
    ++finished;
    if (done) done(finished);
    start(lane);
  };

  for (Lane& lane : lanes) start(lane);
  std::vector<BatchItem> batch;
  std::vector<Lane*> wanted;
  while (finished < requests.size()) {
    batch.clear();
    wanted.clear();
    // Answers under way come first, one token each; what is left of the batch takes prompts.
    size_t room = static_cast<size_t>(engine_.options().max_batch_tokens);
    for (const bool prompts : {false, true})
      for (Lane& lane : lanes) {
        if (!lane.busy || room == 0 ||
            (lane.sequence->length() == 0 || lane.pending.size() > 1) != prompts)
          continue;
        const auto tokens = lane.pending.first(std::min(room, lane.pending.size()));
        lane.pending = lane.pending.subspan(tokens.size());
        room -= tokens.size();
        const bool complete = lane.pending.empty();
        batch.push_back({lane.sequence.get(), tokens,
                         static_cast<int64_t>(tokens.size()) - (complete ? 1 : 0), adapter_.get()});
        if (complete) wanted.push_back(&lane);
      }
    const auto best = engine_.step_best(batch, 1);
    for (size_t i = 0; i < wanted.size(); ++i) choose(*wanted[i], best[i].id);
  }
  return answers;
}

}  // namespace

std::unique_ptr<Scorer> make_engine_scorer(const std::string& model_path,
                                           const EngineScorerOptions& options) {
  return std::make_unique<EngineScorer>(model_path, options);
}

}  // namespace lapidary
