// How a library tells its caller that work goes on, and learns that it should stop.
//
// Libraries never print. They call progress() now and then and note() for things a person should
// know; tools/cli renders them. poll() throws Error(kInterrupted) once `cancelled` is set, so that
// destructors remove temporary files on the way out. All three are called from one thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "formats/error.h"

namespace lapidary {

struct Progress {
  const char* what = "";    // what is counted: "tensors", "tokens", "steps"
  uint64_t done = 0;        // in units of `what`
  uint64_t total = 0;       // 0: unknown
  uint64_t bytes_done = 0;  // 0: bytes mean nothing here
  std::string detail = {};  // the tensor at hand, the present loss, ...
};

struct Events {
  std::function<void(const Progress&)> on_progress;
  std::function<void(const std::string&)> on_note;
  const std::atomic<bool>* cancelled = nullptr;

  void progress(const Progress& p) const {
    poll();
    if (on_progress) on_progress(p);
  }
  void note(const std::string& text) const {
    if (on_note) on_note(text);
  }
  void poll() const {
    if (cancelled && cancelled->load(std::memory_order_relaxed))
      fail(ErrorCode::kInterrupted, "interrupted; nothing was written");
  }
};

}  // namespace lapidary
