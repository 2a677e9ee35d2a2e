// The way back of one request: written on any thread, sent by the connection's coroutine.
//
// A state under a mutex and a `wake` that makes the coroutine look at it. Once the client has gone
// the rest is dropped and whoever asked is told.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>

#include "runtime/server/http.h"

namespace lapidary::server {

class HttpExchange : public Exchange {
 public:
  // `wake` is called after each change, on the changing thread; must not block or throw.
  HttpExchange(std::function<void()> wake, uint64_t max_unsent_bytes, bool keeps_alive,
               bool is_http_1_0, bool is_head)
      : wake_(std::move(wake)),
        max_unsent_bytes_(max_unsent_bytes),
        keeps_alive_(keeps_alive && !is_http_1_0),
        chunked_(!is_http_1_0),
        is_head_(is_head) {}

  void respond(HttpResponse response) override;
  void begin_stream(HttpResponse head) override;
  void write(std::string chunk) override;
  void end_stream() override;
  void on_gone(std::function<void()> callback) override;

  // The connection's side. take(): bytes to send now, and whether they are the last.
  struct Outgoing {
    std::string bytes;
    bool is_last = false;
  };
  Outgoing take();
  void set_gone();  // runs the callback of on_gone()
  bool is_gone() const;
  bool is_overfull() const;  // the client takes too little of its stream: give it up
  void close_after() { keeps_alive_ = false; }  // REQUIRES: nothing was taken yet
  bool keeps_alive() const { return keeps_alive_; }

 private:
  void append_head(const HttpResponse& response, bool is_stream);
  void append_chunk(const std::string& chunk);
  void changed(std::unique_lock<std::mutex>& lock);

  const std::function<void()> wake_;
  const uint64_t max_unsent_bytes_;
  std::atomic<bool> keeps_alive_;
  const bool chunked_, is_head_;

  mutable std::mutex mutex_;
  std::string unsent_;
  bool begun_ = false, ended_ = false, gone_ = false, is_overfull_ = false;
  std::function<void()> on_gone_;
};

}  // namespace lapidary::server
