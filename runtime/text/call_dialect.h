// The notation in which Gemma models write the arguments of a call, turned into JSON as it comes:
// {city:<|"|>Paris, "FR"<|"|>,days:3,opt:{deep:true},tags:[<|"|>a<|"|>]}.
//
// Keys are bare, strings stand between a special token each, have no escapes and hold
// anything else, the rest is JSON.
// What models are seen to write instead is understood: keys and strings in quotation marks, spaces,
// commas behind the last item, Python's None, True and False; any other bare word is a string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/json_text.h"

namespace lapidary {

class CallArguments {
 public:
  enum class Progress { kMore, kDone, kBroken };

  // `quote` stands on both sides of a string, `end` behind the call. Both must outlive this.
  CallArguments(std::string_view quote, std::string_view end) : markers_{quote, end} {}

  // Takes the front of `text`, which begins with the arguments' brace, and appends JSON. kDone: the
  // outer brace is closed, by the model or, where `end` follows, for it; `end` is not taken.
  Progress push(std::string_view& text, bool is_end, std::string& json);

  static constexpr size_t kMaxDepth = 128;

 private:
  enum class At { kOpen, kKey, kBareKey, kColon, kValue, kBare, kMarked, kQuoted, kBehind };
  enum Marker { kQuote, kEnd };

  Progress take(char c, bool& was_taken, std::string& json);
  Progress take_marker(Marker marker, std::string& json);
  Progress begin_string(At how, std::string& json);
  void end_string();
  void end_bare(std::string& json);
  void write_comma(std::string& json);
  Progress close(char c, std::string& json);
  bool is_in_object() const { return !open_.empty() && open_.back() == '{'; }

  std::string_view markers_[2];
  At at_ = At::kOpen;
  std::vector<char> open_;
  bool is_key_ = false;         // of the string that is being read
  bool is_comma_seen_ = false;  // and not yet written
  JsonStringText quoted_;
  std::string bare_;
};

}  // namespace lapidary
