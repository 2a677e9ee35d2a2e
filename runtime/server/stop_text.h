// Stop strings: what is certain of a text that must end before any of them.
//
// Text that may be the beginning of a stop string is held back until more comes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lapidary::server {

class StopText {
 public:
  explicit StopText(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // What of the text so far is certain now. Nothing more comes after a stop.
  std::string push(std::string_view text);
  std::string finish();  // what was held back
  bool is_stopped() const { return !matched_.empty(); }
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_, matched_;
};

}  // namespace lapidary::server
