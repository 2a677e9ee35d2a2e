// What an endpoint answered, without a socket.
#pragma once

#include <condition_variable>
#include <mutex>

#include "runtime/server/http.h"

namespace lapidary::server {

class RecordedExchange : public Exchange {
 public:
  void respond(HttpResponse response) override {
    finish([&] { head_ = std::move(response); });
  }
  void begin_stream(HttpResponse head) override {
    std::lock_guard lock(mutex_);
    is_stream_ = true;
    head_ = std::move(head);
  }
  void write(std::string chunk) override {
    std::lock_guard lock(mutex_);
    head_.body += chunk;
  }
  void end_stream() override {
    finish([] {});
  }
  void on_gone(std::function<void()> callback) override {
    std::lock_guard lock(mutex_);
    gone_ = std::move(callback);
  }

  // Waits for the end. `body` is everything that was streamed.
  HttpResponse wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_finished_; });
    return head_;
  }
  bool is_finished() {
    std::lock_guard lock(mutex_);
    return is_finished_;
  }
  bool is_stream() const { return is_stream_; }
  void leave() {
    std::function<void()> gone;
    {
      std::lock_guard lock(mutex_);
      gone = gone_;
    }
    if (gone) gone();
  }

 private:
  template <class F>
  void finish(F&& change) {
    std::lock_guard lock(mutex_);
    change();
    is_finished_ = true;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  HttpResponse head_;
  bool is_stream_ = false, is_finished_ = false;
  std::function<void()> gone_;
};

}  // namespace lapidary::server
