// HTTP/1.1 for the API: a request in; one response, or a stream of chunks, out.
//
// Boost.Beast and Asio stay behind this header, so everything above it is plain functions that
// tests call without a socket. One thread runs all connections (a coroutine each), a few workers
// run the handler where a request has a body: that may load a model or compile a schema. An answer
// is not awaited by anybody: whoever makes it writes to the Exchange, from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary::server {

struct HttpHeader {
  std::string name, value;
};

struct HttpRequest {
  std::string method, path, query, body;  // of "/v1/models?a=b": "/v1/models" and "a=b"
  std::vector<HttpHeader> headers;
  // The first of that name, whatever its case; empty when there is none.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<HttpHeader> headers;
};

// The way back of one request. All members are thread-safe and none blocks. Exactly one of
// respond() and begin_stream() is called; what comes after the client has gone is dropped.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void respond(HttpResponse response) = 0;
  // `head.body` is the first chunk, perhaps empty.
  virtual void begin_stream(HttpResponse head) = 0;
  virtual void write(std::string chunk) = 0;
  virtual void end_stream() = 0;
  // Called once, on the connections' thread, when the client goes before its answer is complete; at
  // once if it has gone already. Never from within the other members.
  virtual void on_gone(std::function<void()> callback) = 0;
};

// Must not throw. Requests without a body are handled on the connections' own thread: nothing may
// block there.
using HttpHandler = std::function<void(HttpRequest request, std::shared_ptr<Exchange> exchange)>;

struct HttpOptions {
  std::string host = "127.0.0.1";  // an address, not a name
  int port = 8080;                 // 0: any free one
  int n_workers = 4;
  int max_connections = 512;               // more are turned away with 503
  uint64_t max_header_bytes = 32u << 10;   // 431
  uint64_t max_body_bytes = 16u << 20;     // 413
  uint64_t max_unsent_bytes = 4u << 20;    // of a stream that its reader does not take: closed
  std::chrono::seconds idle_limit{75};     // between requests of one connection
  std::chrono::seconds receive_limit{30};  // for a request's header, then for its body
  std::chrono::seconds send_limit{30};     // for a client to take what is there
  std::chrono::seconds drain_limit{30};    // for answers under way when the server stops
  std::string tls_certificate, tls_key;    // PEM files; both empty: plain HTTP
  // What the transport itself refuses (400, 408, 413, 431, 503) looks like.
  std::function<HttpResponse(int status, std::string_view message)> refusal;
};

class HttpServer {
 public:
  // Binds and listens. Throws kUsage for an address that is none, kIo for one that is taken, and
  // kBadData or kNotFound for certificates.
  HttpServer(HttpOptions options, HttpHandler handler);
  ~HttpServer();

  int port() const;
  int64_t n_connections() const;
  // Serves until `stop` is set, then takes no more connections, closes idle ones and waits for the
  // answers under way, at most drain_limit. False: some were cut.
  bool run(const std::atomic<bool>& stop);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

const char* reason_phrase(int status);

}  // namespace lapidary::server
