// Where the reply parsers write to, and what they share: white space, indices of calls, and looking
// for markers in text that comes in pieces.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/reply_parser.h"

namespace lapidary {

class ReplyWriter {
 public:
  void write_to(std::vector<ReplyDelta>& out) { out_ = &out; }
  // White space waits until it is known what follows.
  void content(std::string_view text);
  void reasoning(std::string_view text);
  void begin_thought();
  void end_thought();
  void begin_call(std::string name);
  void arguments(std::string_view json);
  void end_call();
  void finish();  // the white space that is left

 private:
  void emit(ReplyDelta::Kind kind, std::string_view text, int call_index = -1);

  std::vector<ReplyDelta>* out_ = nullptr;
  std::string content_space_, reasoning_space_;  // seen, not yet written
  bool has_content_ = false, has_reasoning_ = false, is_thought_new_ = true,
       is_behind_markup_ = false;
  int n_calls_ = 0;
};

bool is_json_space(char c);

// What `text` begins with: one of `markers` wholly, none, or not to be told yet.
struct MarkerMatch {
  std::optional<size_t> marker;
  bool is_unclear = false;  // `text` is the beginning of a marker, and more may come
};
MarkerMatch match_marker(std::string_view text, std::span<const std::string_view> markers,
                         bool is_end);
// The first place in `text` where a marker begins or may begin; text.size() when there is none.
size_t find_marker(std::string_view text, std::span<const std::string_view> markers, bool is_end);

// A parser that takes what it is sure of off the front of a buffer, step by step.
class BufferedReplyParser : public ReplyParser {
 public:
  void push(std::string_view text, std::vector<ReplyDelta>& out) final;
  void finish(std::vector<ReplyDelta>& out) final;

 protected:
  // Takes something off `rest`, or changes state; false when nothing can be said before more text
  // comes. With `is_end` all of it must go.
  virtual bool step(std::string_view& rest, bool is_end) = 0;
  // After the last step: what was held back is written.
  virtual void end() {}
  ReplyWriter writer_;

 private:
  void run(std::vector<ReplyDelta>& out, bool is_end);
  std::string buffer_;
};

}  // namespace lapidary
