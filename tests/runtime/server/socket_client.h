// A client of raw bytes on loopback, for well-formed requests and for all others.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lapidary::server {

class SocketClient {
 public:
  explicit SocketClient(int port);
  ~SocketClient() { close(); }
  SocketClient(const SocketClient&) = delete;
  SocketClient& operator=(const SocketClient&) = delete;

  bool is_open() const { return fd_ >= 0; }
  // False: the other side has closed.
  bool send(std::string_view bytes);
  // Up to `until` (included), or all until the other side closes or nothing comes for `timeout_ms`.
  std::string read_until(std::string_view until, int timeout_ms = 10000);
  std::string read_all(int timeout_ms = 10000) { return read_until({}, timeout_ms); }
  // The other side closes within the time.
  bool is_closed(int timeout_ms);
  void close();
  void reset();  // closes abruptly: RST in place of FIN

 private:
  int fd_ = -1;
  std::string held_;  // read beyond what was asked for
};

struct PlainResponse {
  int status = 0;  // 0: none came
  std::string head, body;
};
// One request on a connection of its own; chunked bodies are put together.
PlainResponse fetch(int port, std::string_view method, std::string_view path,
                    std::string_view body = {}, std::string_view more_headers = {});
std::string request_text(std::string_view method, std::string_view path, std::string_view body = {},
                         std::string_view more_headers = {});
std::string unchunked(std::string_view body);

}  // namespace lapidary::server
