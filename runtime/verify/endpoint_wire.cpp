// The dialects of /v1/completions: what is asked, and where each server puts its log-probabilities.
#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "runtime/verify/endpoint.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;

// Of what may hold a list or an object, from the answer's root: OpenAI's and vLLM's legacy form,
// then llama.cpp's.
const Json* find(const Json& root, std::initializer_list<const char*> path) {
  const Json* at = &root;
  for (const char* key : path) {
    if (at->is_array()) {
      if (at->empty()) return nullptr;
      at = &at->front();
    }
    const auto next = at->is_object() ? at->find(key) : at->end();
    if (!at->is_object() || next == at->end() || next->is_null()) return nullptr;
    at = &*next;
  }
  return at;
}

}  // namespace

std::string completion_request(const std::string& model, std::span<const int32_t> prompt,
                               int n_best) {
  Json json{{"prompt", std::vector<int32_t>(prompt.begin(), prompt.end())},
            {"max_tokens", 1},
            {"logprobs", n_best},
            {"temperature", 0},
            // vLLM's way to tell ids; others ignore it.
            {"return_tokens_as_token_ids", true}};
  if (!model.empty()) json["model"] = model;
  return json.dump();
}

CompletionReader::CompletionReader(const Tokenizer& tokenizer, int64_t vocab_size)
    : vocab_size_(vocab_size) {
  // Tokens of single bytes last: where a letter has a token of its own, that is the one.
  for (const bool of_bytes : {false, true})
    for (int32_t id = 0; id < vocab_size; ++id) {
      const std::string_view piece = tokenizer.piece(id);
      if ((piece.size() == 6 && piece.starts_with("<0x")) != of_bytes) continue;
      const std::string bytes =
          tokenizer.is_special(id) ? std::string(piece) : tokenizer.token_bytes(id);
      if (!bytes.empty()) ids_.emplace(bytes, id);
    }
}

int32_t CompletionReader::id_of(std::string_view text) const {
  constexpr std::string_view kById = "token_id:";
  if (text.starts_with(kById)) {
    int32_t id = -1;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + kById.size(), end, id);
    return parsed.ec == std::errc() && parsed.ptr == end ? id : -1;
  }
  const auto found = ids_.find(std::string(text));
  return found == ids_.end() ? -1 : found->second;
}

NextTokens CompletionReader::read(std::string_view json) const {
  const Json answer = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  NextTokens tokens;
  size_t n_told = 0;
  const auto add = [&](int32_t id, const Json& value) {
    ++n_told;
    if (id < 0 || id >= vocab_size_ || !value.is_number()) return;
    const float log_probability = value.get<float>();
    if (!(log_probability <= 1e-3f)) return;
    if (std::ranges::find(tokens, id, &Candidate::id) == tokens.end())
      tokens.push_back({std::min(log_probability, 0.0f), id});
  };
  if (const Json* best = find(answer, {"choices", "logprobs", "top_logprobs"});
      best && best->is_array() && !best->empty() && best->front().is_object()) {
    for (const auto& [text, value] : best->front().items()) add(id_of(text), value);
  } else if (const Json* items = find(answer, {"choices", "logprobs", "content", "top_logprobs"});
             items && items->is_array()) {
    for (const Json& item : *items) {
      if (!item.is_object()) continue;
      const auto id = item.find("id"), text = item.find("token"), value = item.find("logprob");
      const bool has_id = id != item.end() && id->is_number_integer();
      add(has_id                                    ? id->get<int32_t>()
          : text != item.end() && text->is_string() ? id_of(text->get<std::string>())
                                                    : -1,
          value == item.end() ? Json() : *value);
    }
  }
  const Json* const reason = find(answer, {"choices", "finish_reason"});
  if (n_told == 0 && reason && *reason == "stop") return {};
  if (n_told == 0)
    fail(ErrorCode::kBadData, "the server's answer has no log-probabilities: {}",
         std::string(json.substr(0, 200)));
  if (tokens.size() * 2 < n_told)
    fail(ErrorCode::kBadData,
         "of the {} tokens that the server told, {} are in this model's vocabulary: another model?",
         n_told, tokens.size());
  return tokens;
}

}  // namespace lapidary
