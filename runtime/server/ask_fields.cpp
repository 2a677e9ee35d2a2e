// Ranges are OpenAI's, wider where the sampler allows more.
#include "runtime/server/ask_fields.h"

#include <charconv>
#include <cmath>

namespace lapidary::server {
namespace {

constexpr size_t kMaxStops = 16, kMaxBiases = 1024;
constexpr int kMaxAnswers = 128;

int32_t token_of(const std::string& name, const Fields& bias) {
  int32_t id = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error != std::errc() || end != name.data() + name.size() || id < 0)
    bias.refuse("expected token ids as names");
  return id;
}

std::vector<int32_t> token_list(const Fields& list) {
  std::vector<int32_t> ids;
  for (const Fields& id : list.items())
    ids.push_back(static_cast<int32_t>(id.as_integer(0, INT32_MAX)));
  return ids;
}

}  // namespace

std::vector<std::string> read_texts(const Fields& value, size_t max_items) {
  std::vector<std::string> texts;
  if (value.kind() == Fields::Kind::kText) {
    texts.push_back(value.as_text());
  } else {
    for (const Fields& item : value.items()) texts.push_back(item.as_text());
  }
  if (texts.size() > max_items)
    value.refuse("has " + std::to_string(texts.size()) + " items; at most " +
                 std::to_string(max_items) + " are taken");
  for (const std::string& text : texts)
    if (text.empty()) value.refuse("has an empty string");
  return texts;
}

void read_prompts(const Fields& prompt, size_t max_items, Ask& ask) {
  using Kind = Fields::Kind;
  if (prompt.kind() == Kind::kText) {
    ask.texts = {prompt.as_text()};
    return;
  }
  const std::vector<Fields> items = prompt.items();
  if (items.empty()) prompt.refuse("is empty");
  if (items.front().kind() == Kind::kNumber) {
    ask.token_prompts = {token_list(prompt)};
    return;
  }
  if (items.size() > max_items) prompt.refuse("has too many items; send fewer at a time");
  const bool are_texts = items.front().kind() == Kind::kText;
  for (const Fields& item : items) {
    if (are_texts)
      ask.texts.push_back(item.as_text());
    else
      ask.token_prompts.push_back(token_list(item));
  }
}

bool thinks(const Fields& effort) {
  const std::string word = effort.as_text();
  if (word == "none" || word == "minimal") return false;
  for (const char* known : {"low", "medium", "high", "xhigh", "max"})
    if (word == known) return true;
  effort.refuse("expected none, minimal, low, medium or high");
}

void read_sampling(const Fields& body, Ask& ask) {
  ask.model = body.text("model").value_or("");
  ask.stream = body.flag("stream").value_or(false);
  ask.n = static_cast<int>(body.integer("n", 1, kMaxAnswers).value_or(1));
  SamplingWish& wish = ask.sampling;
  wish.temperature = body.number("temperature", 0, 2);
  wish.top_p = body.number("top_p", 0, 1);
  if (wish.top_p == 0) wish.top_p = 1e-6;  // the best token alone
  wish.min_p = body.number("min_p", 0, 1);
  wish.top_k = body.integer("top_k", 0, 1 << 24);
  wish.repetition_penalty = body.number("repetition_penalty", 0.01, 100);
  wish.presence_penalty = body.number("presence_penalty", -2, 2);
  wish.frequency_penalty = body.number("frequency_penalty", -2, 2);
  if (const auto seed = body.integer("seed", INT64_MIN, INT64_MAX))
    wish.seed = static_cast<uint64_t>(*seed);
  if (const auto stop = body.member("stop")) ask.stop = read_texts(*stop, kMaxStops);
  if (const auto biases = body.object("logit_bias")) {
    const auto members = biases->members();
    if (members.size() > kMaxBiases) biases->refuse("has too many tokens");
    for (const auto& [name, bias] : members)
      ask.logit_bias.emplace_back(token_of(name, bias),
                                  static_cast<float>(bias.as_number(-100, 100)));
  }
}

}  // namespace lapidary::server
