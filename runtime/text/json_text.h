// One JSON value, checked and passed on character by character.
//
// Strict but for two slips that models make: control characters inside strings are escaped, and
// brackets may be closed for the model where its own markup says that it has finished.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

// What stands in a JSON string for `text`, appended; quotes are not.
void append_json_escaped(std::string& json, std::string_view text);
bool is_json_number(std::string_view text);

// The inside of a JSON string, up to its closing quotation mark. A half of a surrogate pair, which
// JSON's grammar admits and its readers refuse, becomes U+FFFD.
class JsonStringText {
 public:
  enum class Step { kTaken, kClosed, kBroken };
  Step take(char c, std::string& out);

 private:
  Step take_in_escape(char c, std::string& out);
  void give_up_pair(std::string& out);
  std::string high_;    // a first half that waits for its second
  std::string escape_;  // from the backslash on
};

class JsonText {
 public:
  enum class Step {
    kTaken,
    kComplete,  // taken, and the value ends with it
    kBehind,    // not taken: the value ended before it
    kBroken
  };
  // Appends to `out` what is certain.
  Step take(char c, std::string& out);
  // The text is over: closes what is open. False when that does not make a value of it.
  bool close(std::string& out);
  bool is_in_string() const { return at_ == At::kString; }
  bool has_begun() const { return at_ != At::kValue || !open_.empty(); }

  static constexpr size_t kMaxDepth = 128;

 private:
  enum class At {
    kValue,
    kFirstItem,  // or ]
    kFirstKey,   // or }
    kKey,
    kColon,
    kBehindItem,
    kString,
    kWord  // a number, true, false or null
  };
  Step take_value(char c, std::string& out);
  Step take_behind(char c, std::string& out);
  void begin_string(bool is_key);
  Step end_of_value();
  bool end_word(std::string& out);

  At at_ = At::kValue;
  std::vector<char> open_;
  bool is_key_ = false;  // of the string
  JsonStringText string_;
  std::string word_;
};

}  // namespace lapidary
