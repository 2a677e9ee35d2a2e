// Scoring of task items and their summaries. Reading the file is tasks_file.cpp.
#include "runtime/verify/tasks.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "runtime/text/chat_template.h"
#include "runtime/verify/log_softmax.h"
#include "runtime/verify/statistics.h"

namespace lapidary {
namespace {

constexpr int64_t kSpareTokens = 8;  // room for another way to spell the same answer

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::string piece_or_empty(const Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? std::string() : std::string(tokenizer.piece(id));
}

// Renders an item's conversation as the model was trained to see it.
class Prompter {
 public:
  explicit Prompter(const Scorer& model)
      : tokenizer_(model.tokenizer()),
        template_(model.metadata().chat_template),
        bos_(piece_or_empty(tokenizer_, model.metadata().config.bos_id)) {
    const auto& eos_ids = model.metadata().config.eos_ids;
    if (!eos_ids.empty()) eos_ = piece_or_empty(tokenizer_, eos_ids.front());
  }

  std::vector<int32_t> operator()(const TaskItem& item) const {
    nlohmann::json messages = nlohmann::json::array();
    if (!item.system.empty()) messages.push_back({{"role", "system"}, {"content", item.system}});
    messages.push_back({{"role", "user"}, {"content", item.user}});
    ChatRequest request;
    request.messages_json = messages.dump();
    // The template writes BOS itself, as everywhere in the field.
    return tokenizer_.encode(template_.render(request, bos_, eos_));
  }

 private:
  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  std::string bos_, eos_;
};

// The sum of log-probabilities of `choice` after BOS and `context`. Both are encoded together, and
// all tokens from the first one that `choice` touches are scored: the border may fuse into one
// token.
double choice_log_likelihood(Scorer& model, const std::string& context, const std::string& choice) {
  const std::vector<int32_t> alone = model.tokenizer().encode(context);
  std::vector<int32_t> tokens = model.tokenizer().encode(context + choice);
  const auto [fork, ignored] =
      std::mismatch(tokens.begin(), tokens.end(), alone.begin(), alone.end());
  size_t first = static_cast<size_t>(fork - tokens.begin());
  int32_t bos = model.metadata().config.bos_id;
  if (bos < 0) bos = model.tokenizer().bos_id().value_or(-1);
  if (bos >= 0) {
    tokens.insert(tokens.begin(), bos);
    ++first;
  }
  if (first == 0)
    fail(ErrorCode::kBadData, "a choice without context needs a model with a BOS token");
  if (first == tokens.size())
    fail(ErrorCode::kBadData, "the choice '{}' adds no token to its context", choice);

  // tokens[i] is predicted by the logits after tokens[i - 1]; the last token predicts nothing.
  const size_t n_inputs = tokens.size() - 1, vocab = static_cast<size_t>(model.vocab_size());
  model.begin(static_cast<int64_t>(n_inputs));
  double sum = 0;
  for (size_t at = 0; at < n_inputs; at += model.max_chunk()) {
    const size_t count = std::min<size_t>(model.max_chunk(), n_inputs - at);
    const size_t wanted = at + count > first - 1 ? std::min(count, at + count - (first - 1)) : 0;
    const auto logits =
        model.append(std::span(tokens).subspan(at, count), static_cast<int64_t>(wanted));
    for (size_t i = 0; i < wanted; ++i)
      sum -= negative_log_likelihood(logits.subspan(i * vocab, vocab),
                                     tokens[at + count - wanted + i + 1]);
  }
  return sum;
}

bool choose(Scorer& model, const TaskItem& item) {
  int best = 0;
  double best_score = 0;
  for (size_t i = 0; i < item.choices.size(); ++i) {
    const double score = choice_log_likelihood(model, item.context, item.choices[i]);
    if (i == 0 || score > best_score) {
      best = static_cast<int>(i);
      best_score = score;
    }
  }
  return best == item.gold;
}

void score_generated(Scorer& model, const std::vector<TaskItem>& items,
                     const std::vector<size_t>& which, std::vector<uint8_t>& right,
                     const std::function<void(size_t)>& done) {
  if (which.empty()) return;
  if (model.metadata().chat_template.empty())
    fail(ErrorCode::kBadData,
         "the model has no chat template, so it cannot answer items with \"user\"; use items with "
         "\"context\" and \"choices\", or convert a checkpoint that has one");
  const Prompter prompt(model);
  const Tokenizer& tokenizer = model.tokenizer();
  std::vector<GreedyRequest> requests;
  for (const size_t index : which) {
    const TaskItem& item = items[index];
    requests.push_back(
        {prompt(item), static_cast<int64_t>(tokenizer.encode(item.answer).size()) + kSpareTokens});
  }
  const auto answers = model.answer_all(requests, model.metadata().config.eos_ids, done);
  for (size_t i = 0; i < which.size(); ++i)
    right[which[i]] = trim(tokenizer.decode(answers[i])) == trim(items[which[i]].answer);
}

void add_to(TaskComparison& task, uint8_t base, uint8_t candidate) {
  ++task.items;
  task.base += base;
  task.candidate += candidate;
  task.base_only += base && !candidate;
  task.candidate_only += candidate && !base;
}

void finish(TaskComparison& task) {
  const double n = static_cast<double>(task.items);
  task.base /= n;
  task.candidate /= n;
  task.difference = static_cast<double>(task.candidate_only - task.base_only) / n;
  const Interval interval = tango_interval(task.base_only, task.candidate_only, task.items);
  task.interval[0] = interval.first;
  task.interval[1] = interval.second;
}

}  // namespace

std::vector<uint8_t> score_tasks(Scorer& model, const std::vector<TaskItem>& items,
                                 const Events& events) {
  std::vector<uint8_t> right(items.size(), 0);
  std::vector<size_t> generated, chosen;
  for (size_t i = 0; i < items.size(); ++i) (items[i].gold >= 0 ? chosen : generated).push_back(i);
  const auto report = [&](size_t done) {
    events.progress({.what = "items", .done = done, .total = items.size(), .detail = {}});
  };
  report(0);
  score_generated(model, items, generated, right, report);
  for (size_t i = 0; i < chosen.size(); ++i) {
    right[chosen[i]] = choose(model, items[chosen[i]]);
    report(generated.size() + i + 1);
  }
  return right;
}

std::map<std::string, TaskResult> summarize(const std::vector<TaskItem>& items,
                                            const std::vector<uint8_t>& right) {
  LAPIDARY_CHECK(items.size() == right.size());
  std::map<std::string, TaskResult> results;
  std::map<std::string, int64_t> hits;
  for (size_t i = 0; i < items.size(); ++i) {
    ++results[items[i].task].items;
    hits[items[i].task] += right[i];
  }
  for (auto& [name, result] : results) {
    result.accuracy = static_cast<double>(hits[name]) / static_cast<double>(result.items);
    const Interval interval = wilson_interval(hits[name], result.items);
    result.interval[0] = interval.first;
    result.interval[1] = interval.second;
  }
  return results;
}

std::map<std::string, TaskComparison> compare_tasks(const std::vector<TaskItem>& items,
                                                    const std::vector<uint8_t>& base,
                                                    const std::vector<uint8_t>& candidate) {
  LAPIDARY_CHECK(items.size() == base.size() && items.size() == candidate.size());
  std::map<std::string, TaskComparison> results;
  for (size_t i = 0; i < items.size(); ++i) {
    add_to(results[items[i].task], base[i], candidate[i]);
    add_to(results[kPooledName], base[i], candidate[i]);
  }
  for (auto& [name, task] : results) finish(task);
  return results;
}

}  // namespace lapidary
