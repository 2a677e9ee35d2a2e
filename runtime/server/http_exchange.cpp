// Response heads and chunks as HTTP/1.1 writes them (RFC 9112, sections 4 and 7.1).
#include "runtime/server/http_exchange.h"

#include <fmt/format.h>

#include <iterator>

namespace lapidary::server {

void HttpExchange::append_head(const HttpResponse& response, bool is_stream) {
  auto out = std::back_inserter(unsent_);
  fmt::format_to(out, "HTTP/1.1 {} {}\r\nContent-Type: {}\r\n", response.status,
                 reason_phrase(response.status), response.content_type);
  for (const HttpHeader& h : response.headers) fmt::format_to(out, "{}: {}\r\n", h.name, h.value);
  if (!is_stream)
    fmt::format_to(out, "Content-Length: {}\r\n", response.body.size());
  else if (chunked_)
    fmt::format_to(out, "Transfer-Encoding: chunked\r\n");
  fmt::format_to(out, "Connection: {}\r\n\r\n", keeps_alive_ ? "keep-alive" : "close");
}

void HttpExchange::append_chunk(const std::string& chunk) {
  if (chunk.empty()) return;  // an empty chunk would end the stream
  if (!chunked_)
    unsent_ += chunk;
  else
    fmt::format_to(std::back_inserter(unsent_), "{:x}\r\n{}\r\n", chunk.size(), chunk);
}

void HttpExchange::changed(std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  wake_();
}

void HttpExchange::respond(HttpResponse response) {
  std::unique_lock lock(mutex_);
  if (begun_ || gone_) return;
  begun_ = ended_ = true;
  append_head(response, /*is_stream=*/false);
  if (!is_head_) unsent_ += response.body;
  on_gone_ = nullptr;
  changed(lock);
}

void HttpExchange::begin_stream(HttpResponse head) {
  std::unique_lock lock(mutex_);
  if (begun_ || gone_) return;
  begun_ = true;
  append_head(head, /*is_stream=*/true);
  append_chunk(head.body);
  changed(lock);
}

void HttpExchange::write(std::string chunk) {
  std::unique_lock lock(mutex_);
  if (!begun_ || ended_ || gone_ || is_overfull_) return;
  append_chunk(chunk);
  is_overfull_ = unsent_.size() > max_unsent_bytes_;
  changed(lock);
}

void HttpExchange::end_stream() {
  std::unique_lock lock(mutex_);
  if (!begun_ || ended_ || gone_) return;
  ended_ = true;
  if (chunked_) unsent_ += "0\r\n\r\n";
  on_gone_ = nullptr;
  changed(lock);
}

void HttpExchange::on_gone(std::function<void()> callback) {
  std::unique_lock lock(mutex_);
  if (ended_) return;
  if (!gone_) {
    on_gone_ = std::move(callback);
    return;
  }
  lock.unlock();
  callback();
}

void HttpExchange::set_gone() {
  std::unique_lock lock(mutex_);
  if (gone_) return;
  gone_ = true;
  unsent_ = {};
  const std::function<void()> callback = std::move(on_gone_);
  on_gone_ = nullptr;
  lock.unlock();
  if (callback) callback();
  wake_();
}

bool HttpExchange::is_gone() const {
  std::lock_guard lock(mutex_);
  return gone_;
}

// A reader that takes nothing must not fill the memory.
bool HttpExchange::is_overfull() const {
  std::lock_guard lock(mutex_);
  return is_overfull_;
}

HttpExchange::Outgoing HttpExchange::take() {
  std::lock_guard lock(mutex_);
  Outgoing out{std::move(unsent_), ended_};
  unsent_ = {};
  return out;
}

}  // namespace lapidary::server
