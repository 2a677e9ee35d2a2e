// What a model says, taken apart as it comes: its thoughts, its answer, and the tools it calls.
//
// One parser per family of chat templates (Gemma 4 channels and calls, FunctionGemma, Llama 3,
// Qwen3), chosen by the template. Input is the decoded text with special tokens kept, in pieces of
// any size; output is the same for any cutting into pieces. Nothing the model says is an error:
// what is not a well-formed call becomes text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

enum class ReplyFormat { kPlain, kGemma4, kFunctionGemma, kLlama3, kQwen3 };
// From the special texts that the template's source writes.
ReplyFormat reply_format(std::string_view chat_template);

// Calls have consecutive indices from 0; a call's arguments_delta pieces together are its arguments
// as JSON (an object), whatever the model's own notation is.
struct ReplyDelta {
  enum class Kind { kReasoning, kContent, kCallBegin, kCallArguments, kCallEnd };
  Kind kind;
  std::string text;     // reasoning or content; the name of a call that begins; its arguments
  int call_index = -1;  // of the last three kinds
};

class ReplyParser {
 public:
  virtual ~ReplyParser() = default;
  // `prompt_tail`: the end of the rendered prompt, which may have opened a thought.
  static std::unique_ptr<ReplyParser> make(ReplyFormat format, std::string_view prompt_tail = {});
  // Appends what is certain by now to `out`.
  virtual void push(std::string_view text, std::vector<ReplyDelta>& out) = 0;
  virtual void finish(std::vector<ReplyDelta>& out) = 0;
};

// The deltas put together again.
struct Reply {
  struct Call {
    std::string name, arguments_json;
  };
  std::string reasoning, content;
  std::vector<Call> calls;
  void add(const ReplyDelta& delta);
};

}  // namespace lapidary
