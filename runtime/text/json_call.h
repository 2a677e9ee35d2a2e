// A tool call written as a JSON object, {"name": ..., "arguments": {...}}, taken apart as it comes.
//
// Members may stand in any order; "parameters" is read as "arguments"; arguments that are a string
// holding an object are unwrapped; members with other names are skipped. Shared by Qwen3 and
// Llama 3.
#pragma once

#include <string>
#include <string_view>

#include "runtime/text/json_text.h"
#include "runtime/text/reply_writer.h"

namespace lapidary {

class JsonCall {
 public:
  enum class Progress { kMore, kDone, kBroken };

  // `end`: what closes a call in the family's markup, or empty. `only_known`: any other member than
  // name, arguments, parameters, type and id means that this is no call.
  JsonCall(std::string_view end, bool only_known) : end_(end), only_known_(only_known) {}

  // Takes from `text` what belongs to the call; `writer` is told of it once the name is known and
  // the arguments begin. After kDone the call was ended.
  Progress push(std::string_view& text, bool is_end, ReplyWriter& writer);
  // The writer knows of the call: it can only be cut.
  bool has_begun() const { return has_begun_; }
  const std::string& taken() const { return taken_; }  // all text so far, while not has_begun()

 private:
  enum class At { kOpen, kFirstKey, kKey, kInKey, kColon, kValue, kBehind };
  enum class Member { kName, kArguments, kOther };

  Progress take(char c, ReplyWriter& writer, bool& was_taken);
  Progress take_value(char c, ReplyWriter& writer, bool& was_taken);
  bool end_key();
  bool end_value();
  bool end(ReplyWriter& writer);
  void flush_arguments(ReplyWriter& writer);
  bool is_in_string() const {
    return (at_ == At::kInKey || at_ == At::kValue) && value_.is_in_string();
  }

  std::string_view end_;
  bool only_known_;
  At at_ = At::kOpen;
  Member member_ = Member::kOther;
  JsonText value_;          // the key or value that is being read
  std::string value_text_;  // of it, as JSON; arguments go on at once
  bool has_name_ = false, has_arguments_ = false, has_begun_ = false;
  bool is_object_ = false;  // the arguments, not a string
  std::string name_, arguments_, taken_;
};

}  // namespace lapidary
