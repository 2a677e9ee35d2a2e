// A command run for a tool call: no shell, its input given, its output and time limited.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

struct ChildLimits {
  double seconds = 10;                     // then it and what it started are killed
  size_t output_bytes = size_t{64} << 10;  // likewise
};

struct ChildResult {
  enum class End { kExited, kSignalled, kTimedOut, kTooMuchOutput };
  End end = End::kExited;
  int status = 0;      // of kExited; the signal of kSignalled
  std::string output;  // what it wrote to stdout, at most the limit
};

// Runs argv[0], found in PATH when it has no slash, with `input` on stdin and our stderr. Throws
// kNotFound or kIo when it cannot be started, kInterrupted (after killing it) when `interrupted` is
// set. REQUIRES: argv is not empty.
ChildResult run_child(const std::vector<std::string>& argv, std::string_view input,
                      const ChildLimits& limits, const std::atomic<bool>& interrupted);

}  // namespace lapidary
