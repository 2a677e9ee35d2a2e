// The earliest stop counts; of two at one place, the first of the list.
#include "runtime/server/stop_text.h"

#include <algorithm>

namespace lapidary::server {
namespace {

// Bytes at the end of `text` that begin `stop`, but are not all of it.
size_t begun(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n)
    if (text.ends_with(stop.substr(0, n))) return n;
  return 0;
}

}  // namespace

std::string StopText::push(std::string_view text) {
  if (is_stopped()) return {};
  if (stops_.empty()) return std::string(text);
  held_ += text;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at < first) {
      first = at;
      matched_ = stop;
    }
  }
  size_t certain = first;
  if (first == std::string::npos) {
    size_t open = 0;
    for (const std::string& stop : stops_) open = std::max(open, begun(held_, stop));
    certain = held_.size() - open;
  }
  std::string out = held_.substr(0, certain);
  held_.erase(0, certain);
  if (is_stopped()) held_.clear();
  return out;
}

std::string StopText::finish() {
  std::string out = std::move(held_);
  held_.clear();
  return out;
}

}  // namespace lapidary::server
