// The transport with a handler made for a test.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "runtime/server/http.h"

namespace lapidary::server {

// A server on a free port, and a thread that runs it.
class RunningServer {
 public:
  explicit RunningServer(HttpHandler handler, HttpOptions options = {}) {
    options.port = 0;
    options.refusal = [](int status, std::string_view message) {
      HttpResponse response;
      response.status = status;
      response.body = std::string(message);
      return response;
    };
    server = std::make_unique<HttpServer>(options, std::move(handler));
    thread_ = std::thread([this] { all_done = server->run(stop_); });
  }
  ~RunningServer() { stop(); }
  void ask_to_stop() { stop_ = true; }
  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  int port() const { return server->port(); }

  std::unique_ptr<HttpServer> server;
  bool all_done = false;

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace lapidary::server
