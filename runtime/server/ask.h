// What any of the APIs asks for, in one form: the endpoints differ in how they read and write, not
// in what is done.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lapidary::server {

// What a request says about sampling; the rest is the model's own default.
struct SamplingWish {
  std::optional<double> temperature, top_p, min_p;
  std::optional<double> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;  // none: another answer each time
};

enum class AnswerForm { kText, kJsonObject, kJsonSchema };
enum class ToolChoice { kNone, kAuto, kRequired, kNamed };

struct Ask {
  std::string model;  // empty: the first

  // Chat: messages and tools in the form of chat completions, as templates take them.
  std::string messages_json, tools_json;
  const char* chat_param = "messages";  // the field that the messages come from
  std::string template_json;            // object of further template variables, or empty
  // Not chat: texts or tokens as they are.
  std::vector<std::string> texts;
  std::vector<std::vector<int32_t>> token_prompts;
  bool is_chat() const { return !messages_json.empty(); }

  int n = 1;                          // answers to each prompt
  std::optional<int64_t> max_tokens;  // none: what the context leaves
  SamplingWish sampling;
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<std::string> stop;
  int n_log_probabilities = -1;  // as Request::n_log_probabilities

  AnswerForm form = AnswerForm::kText;
  std::string schema_json;  // of kJsonSchema
  ToolChoice tool_choice = ToolChoice::kAuto;
  std::string tool_name;  // of kNamed
  bool parallel_tool_calls = true;
  std::optional<bool> thinking;  // none: as the template does by itself

  bool stream = false;
};

}  // namespace lapidary::server
