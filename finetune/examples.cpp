// Where the model's turns begin and end, in tokens.
#include "finetune/examples.h"

#include <algorithm>

#include "finetune/token_row.h"
#include "formats/error.h"

namespace lapidary {
namespace {

struct Span {
  size_t begin, end;
};

bool begins_with(const std::vector<int32_t>& ids, const std::vector<int32_t>& prefix) {
  return ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
}

size_t common_prefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  const size_t n = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<int64_t>(n), b.begin()).first - a.begin());
}

Example masked(std::vector<int32_t> ids, const std::vector<Span>& learned) {
  Example example;
  example.labels.assign(ids.size(), kNotLearned);
  for (const Span& span : learned)
    for (size_t i = span.begin; i < std::min(span.end, ids.size()); ++i) example.labels[i] = ids[i];
  example.ids = std::move(ids);
  return example;
}

}  // namespace

struct ExampleMaker::Sink {
  ExampleCounts& counts;
  const TakeExample& use;
};

TooLong parse_too_long(std::string_view name) {
  if (name == "cut") return TooLong::kCut;
  if (name == "drop") return TooLong::kDrop;
  if (name == "refuse") return TooLong::kRefuse;
  fail(ErrorCode::kUsage, "--too-long \"{}\": expected cut, drop or refuse", name);
}

int64_t Example::n_learned() const {
  return std::count_if(labels.begin() + (labels.empty() ? 0 : 1), labels.end(),
                       [](int32_t label) { return label != kNotLearned; });
}

ExampleMaker::ExampleMaker(const Tokenizer& tokenizer, const ModelMetadata& metadata,
                           const ExampleOptions& options)
    : tokenizer_(tokenizer), metadata_(metadata), options_(options) {
  if (!metadata.chat_template.empty()) template_.emplace_back(metadata.chat_template);
}

std::vector<int32_t> ExampleMaker::encode(const std::string& text) const {
  return tokenizer_.encode(text, {.add_special = false, .parse_special = true});
}

std::string ExampleMaker::render(const Record& record, size_t n, bool generation_prompt) const {
  ChatRequest request;
  request.messages_json = "[";
  for (size_t i = 0; i < n; ++i) {
    if (i > 0) request.messages_json += ",";
    request.messages_json += record.messages[i].json;
  }
  request.messages_json += "]";
  request.tools_json = record.tools_json;
  request.add_generation_prompt = generation_prompt;
  // Who learns to think is asked to, as at inference.
  if (record.thinks) request.extra_json = R"({"enable_thinking": true})";
  const auto text_of = [&](int32_t id) {
    return id >= 0 ? std::string(tokenizer_.piece(id)) : std::string();
  };
  const ModelConfig& config = metadata_.config;
  return template_.front().render(request, text_of(config.bos_id),
                                  text_of(config.eos_ids.empty() ? -1 : config.eos_ids.front()));
}

void ExampleMaker::add(Example example, Sink& sink) const {
  if (options_.train_on_all) example.labels = example.ids;
  if (static_cast<int64_t>(example.ids.size()) > options_.context) {
    if (options_.too_long == TooLong::kRefuse)
      fail(ErrorCode::kBadData,
           "{} tokens, beyond the context of {}; use a larger --context, or "
           "--too-long cut or drop",
           example.ids.size(), options_.context);
    if (options_.too_long == TooLong::kDrop) {
      ++sink.counts.n_dropped;
      return;
    }
    example.ids.resize(static_cast<size_t>(options_.context));
    example.labels.resize(static_cast<size_t>(options_.context));
    if (example.n_learned() > 0) ++sink.counts.n_cut;
  }
  if (example.n_learned() == 0) {
    ++sink.counts.n_dropped;
    return;
  }
  ++sink.counts.n_examples;
  sink.counts.tokens += static_cast<int64_t>(example.ids.size());
  sink.use(std::move(example));
}

// Text is learned whole: BOS where the tokenizer puts one, and the end token where the text ends.
// Longer texts become several examples.
void ExampleMaker::add_text(const Record& record, Sink& sink) const {
  const ModelConfig& config = metadata_.config;
  std::vector<int32_t> ids =
      tokenizer_.encode(record.text, {.add_special = false, .parse_special = false});
  if (!config.eos_ids.empty()) ids.push_back(config.eos_ids.front());
  const std::vector<int32_t> first =
      tokenizer_.bos_id() ? std::vector<int32_t>{*tokenizer_.bos_id()} : std::vector<int32_t>{};
  const size_t room = static_cast<size_t>(options_.context) - first.size();
  for (size_t begin = 0; begin < ids.size(); begin += room) {
    std::vector<int32_t> window = first;
    window.insert(window.end(), ids.begin() + static_cast<int64_t>(begin),
                  ids.begin() + static_cast<int64_t>(std::min(begin + room, ids.size())));
    if (begin > 0) ++sink.counts.n_windows;
    const size_t n = window.size();
    add(masked(std::move(window), {{0, n}}), sink);
  }
}

// The whole conversation as one example, when each of its beginnings is a beginning of the whole.
bool ExampleMaker::add_whole(const Record& record, Sink& sink) const {
  std::vector<int32_t> ids = encode(render(record, record.messages.size(), false));
  std::vector<Span> learned;
  for (size_t i = 0; i < record.messages.size(); ++i) {
    if (!record.messages[i].is_answer) continue;
    const std::vector<int32_t> before = encode(render(record, i, true));
    const std::vector<int32_t> after = encode(render(record, i + 1, false));
    if (!begins_with(after, before) || !begins_with(ids, after)) return false;
    learned.push_back({before.size(), after.size()});
  }
  add(masked(std::move(ids), learned), sink);
  return true;
}

// One turn as its own example: the prompt as it will stand when the model is asked, then the turn.
// Templates that drop old reasoning, or put an empty reasoning block into the prompt, need this.
void ExampleMaker::add_turn(const Record& record, size_t answer, Sink& sink) const {
  std::vector<int32_t> ids = encode(render(record, answer, true));
  const std::vector<int32_t> history = encode(render(record, answer, false));
  const std::vector<int32_t> after = encode(render(record, answer + 1, false));
  // The turn's header stands in both; what the prompt has beyond it is written by the template.
  const size_t shared = common_prefix(ids, after);
  if (shared < history.size() || !begins_with(ids, history) || shared == after.size())
    fail(ErrorCode::kBadData,
         "the chat template does not continue its own prompt at message {}; the tokens to learn "
         "cannot be told from those that are given",
         answer + 1);
  const size_t begin = ids.size();
  ids.insert(ids.end(), after.begin() + static_cast<int64_t>(shared), after.end());
  const size_t end = ids.size();
  add(masked(std::move(ids), {{begin, end}}), sink);
}

void ExampleMaker::add_conversation(const Record& record, Sink& sink) const {
  if (template_.empty())
    fail(ErrorCode::kBadData,
         "the model has no chat template, so a conversation cannot be rendered; convert a model "
         "that has one, or give {{\"text\": ...}}");
  if (add_whole(record, sink)) return;
  ++sink.counts.n_unrolled;
  for (size_t i = 0; i < record.messages.size(); ++i)
    if (record.messages[i].is_answer) add_turn(record, i, sink);
}

void ExampleMaker::make(const Record& record, ExampleCounts& counts, const TakeExample& use) const {
  Sink sink{counts, use};
  if (record.form == RecordForm::kText)
    add_text(record, sink);
  else
    add_conversation(record, sink);
}

}  // namespace lapidary
