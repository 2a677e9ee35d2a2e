// The edge of LibTorch: its exceptions in our own terms, and its way with memory.
#pragma once

#include <ATen/ATen.h>
#include <malloc.h>

#include <new>
#include <string>
#include <utility>

#include "formats/error.h"

namespace lapidary {

// Runs f and gives what LibTorch throws in our own terms: its memory errors are the only ones that
// input can cause once shapes have been checked.
template <class F>
decltype(auto) torch_call(const char* what, F&& f) {
  try {
    return std::forward<F>(f)();
  } catch (const c10::Error& e) {
    const std::string message = e.what_without_backtrace();
    const std::string line = message.substr(0, message.find('\n'));
    if (message.find("alloc") != std::string::npos)
      fail(ErrorCode::kOutOfMemory,
           "{}: out of memory ({}); use a smaller --context or --checkpoint-activations", what,
           line);
    fail(ErrorCode::kInternal, "{}: LibTorch says: {}", what, line);
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::kOutOfMemory,
         "{}: out of memory; use a smaller --context or --checkpoint-activations", what);
  }
}

// glibc keeps freed blocks of up to 32 MB for later, and layers of different widths leave holes in
// what it keeps: a step over 2,048 tokens of a 2B model then stands at a gigabyte more than it
// uses. Large blocks come from the system and go back to it; small ones stay, since their pages
// would cost more than their use.
inline void give_memory_back() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 8 << 20);
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
  mallopt(M_TOP_PAD, 32 << 20);
#endif
}

}  // namespace lapidary
