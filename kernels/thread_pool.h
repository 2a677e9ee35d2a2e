// A fixed set of threads that share out index ranges.
//
// run(n, f) calls f(i) for every i in [0, n) once, on any thread, and returns when all are done.
// Work items must not depend on which thread runs them: results are the same for every thread count
// because each item computes whole outputs in a fixed order. f must not throw. Waiting threads spin
// briefly, then sleep. One run at a time: run() is for one caller, and f must not call it again.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace lapidary {

// The cores this process may use: its affinity mask, not the machine's number.
int available_cores();

class ThreadPool {
 public:
  // n_threads <= 0, or more than there are cores: as many as the process may use. More could only
  // take turns, and the run waits for the thread whose turn comes last. The caller's thread is one
  // of them.
  explicit ThreadPool(int n_threads) : ThreadPool(n_threads, available_cores()) {}
  // The same for another number of cores: tests want more threads than there are.
  ThreadPool(int n_threads, int n_cores);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const;

  template <class F>
  void run(int64_t n_items, F&& f) {
    using Function = std::remove_reference_t<F>;
    run_erased(
        n_items, [](void* context, int64_t i) { (*static_cast<Function*>(context))(i); },
        const_cast<void*>(static_cast<const void*>(std::addressof(f))));
  }

 private:
  using Task = void (*)(void*, int64_t);
  void run_erased(int64_t n_items, Task task, void* context);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lapidary
