// What a model says, taken apart as it comes: its thoughts, its answer, and the tools it calls.
//
// One parser per family of chat templates (Gemma 4 channels and calls, FunctionGemma, Llama 3,
// Qwen3), chosen by the template. Input is the decoded text with special tokens kept and stop
// tokens dropped, in pieces of any size; output is the same for any cutting into pieces, and whole
// characters in give whole characters out. Nothing the model says is an error: what does not begin
// as a call is text. A call whose beginning was well-formed is told at once; when it then breaks
// off, it stays cut (no kCallEnd comes) and what follows is text. Cut arguments are no JSON, so
// that nobody acts upon half of them. Brackets that are still open where the model says that the
// call is over are closed.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

enum class ReplyFormat { kPlain, kGemma4, kFunctionGemma, kLlama3, kQwen3 };
// From the special texts that the template's source writes.
ReplyFormat reply_format(std::string_view chat_template);

// Calls have consecutive indices from 0, and one ends before the next begins; a call's
// kCallArguments pieces together are its arguments as JSON (an object), whatever the model's own
// notation is.
struct ReplyDelta {
  enum class Kind { kReasoning, kContent, kCallBegin, kCallArguments, kCallEnd };
  Kind kind;
  std::string text;     // reasoning or content; the name of a call that begins; its arguments
  int call_index = -1;  // of the last three kinds
};

// White space around thoughts, and around calls with no text behind them, is dropped.
class ReplyParser {
 public:
  virtual ~ReplyParser() = default;
  // `prompt_tail`: the end of the rendered prompt, which may have opened a thought. Llama 3 writes
  // calls as bare JSON: parse with kPlain where no tools were declared.
  static std::unique_ptr<ReplyParser> make(ReplyFormat format, std::string_view prompt_tail = {});
  // Appends what is certain by now to `out`.
  virtual void push(std::string_view text, std::vector<ReplyDelta>& out) = 0;
  // The text is over. Nothing may follow.
  virtual void finish(std::vector<ReplyDelta>& out) = 0;
};

// The deltas put together again.
struct Reply {
  struct Call {
    std::string name, arguments_json;
    bool is_complete = false;  // else arguments_json is cut
  };
  std::string reasoning, content;
  std::vector<Call> calls;
  void add(const ReplyDelta& delta);
};

// A whole text at once.
Reply parse_reply(ReplyFormat format, std::string_view text, std::string_view prompt_tail = {});

}  // namespace lapidary
