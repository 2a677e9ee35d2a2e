// Progress on stderr: a line that redraws itself with rate and time left on a terminal, a plain
// line every few seconds elsewhere. Results go to stdout, so progress never mixes with them.
#pragma once

#include <chrono>
#include <string>

#include "formats/events.h"

namespace lapidary {

class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  ~ProgressLine();  // clears the terminal line
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Events that render here and stop at Ctrl-C. Valid while this object lives.
  Events events();

 private:
  void show(const Progress& progress);
  void clear();

  using Clock = std::chrono::steady_clock;
  bool quiet_, terminal_, drawn_ = false;
  Clock::time_point start_, last_;
  std::string what_;
};

// "1.2 s", "3:04", "1:02:03"
std::string format_duration(double seconds);
// "17.5 MB": 1 MB is 1e6 bytes.
std::string format_bytes(double bytes);

}  // namespace lapidary
