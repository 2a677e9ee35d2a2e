// The one error of the project.
//
// Three things can go wrong, with three means. The world is wrong (a file, a request, a recipe):
// throw Error; tools/main.cpp turns it into one line on stderr and an exit status. The program is
// wrong: LAPIDARY_CHECK aborts with file and line; no input may be able to reach it. "Not there" is
// a normal answer: std::optional. A message says what, where, what was found, what was expected and
// what to do; context is put in front on the way up.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace lapidary {

// The values are the process's exit statuses (sysexits.h where it has a name for the case).
enum class ErrorCode : int {
  kUsage = 64,        // wrong options
  kBadData = 65,      // bad hash, bad syntax, wrong shape, wrong base
  kNotFound = 66,     // input file not there
  kBusy = 69,         // too many requests, or closing: try again later
  kInternal = 70,     // our own fault
  kIo = 74,           // read or write failed, disk full
  kOutOfMemory = 75,  // out of memory or over a given limit
  kInterrupted = 130  // Ctrl-C
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

  // The same error with "context: " in front.
  Error within(const std::string& context) const { return {code_, context + ": " + what()}; }

 private:
  ErrorCode code_;
};

template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// Runs f() and puts `context` in front of any Error that leaves it.
template <class F>
decltype(auto) with_context(const std::string& context, F&& f) {
  try {
    return std::forward<F>(f)();
  } catch (const Error& e) {
    throw e.within(context);
  }
}

[[noreturn]] void check_failed(const char* claim, const char* file, int line);

// A claim about our own code. Never about input.
#define LAPIDARY_CHECK(claim) \
  ((claim) ? (void)0 : ::lapidary::check_failed(#claim, __FILE__, __LINE__))

}  // namespace lapidary
