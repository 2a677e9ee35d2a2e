// Runs the built binary as a user would and collects what it says.
#pragma once

#include <sys/resource.h>

#include <string>
#include <vector>

namespace lapidary {

struct Outcome {
  int status = -1;  // exit status; 1000 + signal when one ended it
  std::string out, err;
};

struct RunLimits {
  rlim_t file_bytes = RLIM_INFINITY;     // stands in for a full disk
  int interrupt_after_ms = -1;           // Ctrl-C
  std::string input;                     // on stdin
  int kill_after_ms = -1;                // a power cut: SIGKILL, to the process group
  std::vector<std::string> environment;  // "NAME=value", beside what there is
};

Outcome lapidary_command(const std::vector<std::string>& arguments, const RunLimits& limits = {});

size_t count_lines(const std::string& text);
// Expects one line on stderr that contains `mentions`, nothing on stdout, and this exit status.
void expect_error(const Outcome& outcome, int status, const std::string& mentions);

}  // namespace lapidary
