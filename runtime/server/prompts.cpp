// Prompts and sampling options: an Ask seen by one model.
#include "runtime/server/prompts.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <random>

#include "runtime/server/api_error.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

std::string template_variables(const Ask& ask) {
  if (!ask.thinking) return ask.template_json;
  Json variables = ask.template_json.empty() ? Json::object() : Json::parse(ask.template_json);
  variables["enable_thinking"] = *ask.thinking;
  return variables.dump();
}

std::vector<int32_t> encode_plain(const std::string& text, const ServedModel& model) {
  std::vector<int32_t> ids = model.tokenizer().encode(text);
  if (const int32_t bos = model.bos_id(); bos >= 0 && (ids.empty() || ids.front() != bos))
    ids.insert(ids.begin(), bos);
  return ids;
}

}  // namespace

Prompts make_prompts(const Ask& ask, const ServedModel& model) {
  Prompts prompts;
  if (ask.is_chat()) {
    ChatRequest chat;
    chat.messages_json = ask.messages_json;
    if (ask.tool_choice != ToolChoice::kNone) chat.tools_json = ask.tools_json;
    chat.extra_json = template_variables(ask);
    try {
      prompts.chat_text = model.render(chat);
    } catch (const Error& e) {
      throw ApiError({400,
                      std::string("the chat template cannot write these messages: ") + e.what(),
                      "messages"});
    }
    prompts.tokens.push_back(model.tokenizer().encode(prompts.chat_text));
  }
  for (const std::string& text : ask.texts) prompts.tokens.push_back(encode_plain(text, model));
  for (const std::vector<int32_t>& ids : ask.token_prompts) prompts.tokens.push_back(ids);
  return prompts;
}

void check_prompts(const Prompts& prompts, const ServedModel& model, int64_t room,
                   const char* param) {
  for (const std::vector<int32_t>& ids : prompts.tokens) {
    if (ids.empty()) refuse_field(param, "is empty");
    for (const int32_t id : ids)
      if (id < 0 || id >= model.vocab_size())
        refuse_field(
            param, fmt::format("token {} is outside the vocabulary of {}", id, model.vocab_size()));
    if (static_cast<int64_t>(ids.size()) + room > model.context())
      throw ApiError({400,
                      fmt::format("the prompt has {} tokens; this server's context is {} tokens, "
                                  "answer included",
                                  ids.size(), model.context()),
                      param, "context_length_exceeded"});
  }
}

SamplingOptions sampling_of(const SamplingWish& wish, SamplingOptions options) {
  const auto set = [](float& option, const std::optional<double>& value) {
    if (value) option = static_cast<float>(*value);
  };
  set(options.temperature, wish.temperature);
  set(options.top_p, wish.top_p);
  set(options.min_p, wish.min_p);
  set(options.repetition_penalty, wish.repetition_penalty);
  set(options.presence_penalty, wish.presence_penalty);
  set(options.frequency_penalty, wish.frequency_penalty);
  if (wish.temperature) options.greedy = *wish.temperature == 0;
  if (wish.top_k) options.top_k = static_cast<int>(*wish.top_k);
  options.seed = wish.seed ? *wish.seed : std::random_device{}();
  validate(options);
  return options;
}

}  // namespace lapidary::server
