// POSIX sockets: Boost stays in runtime/server/.
#include "tests/runtime/server/socket_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace lapidary::server {

SocketClient::SocketClient(int port) {
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) close();
}

bool SocketClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::string SocketClient::read_until(std::string_view until, int timeout_ms) {
  for (;;) {
    if (const size_t at = until.empty() ? std::string::npos : held_.find(until);
        at != std::string::npos) {
      std::string out = held_.substr(0, at + until.size());
      held_.erase(0, at + until.size());
      return out;
    }
    pollfd wait{fd_, POLLIN, 0};
    char bytes[4096];
    ssize_t n = 0;
    if (fd_ >= 0 && poll(&wait, 1, timeout_ms) == 1) n = recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) return std::exchange(held_, {});
    held_.append(bytes, static_cast<size_t>(n));
  }
}

bool SocketClient::is_closed(int timeout_ms) {
  pollfd wait{fd_, POLLIN, 0};
  char byte;
  return poll(&wait, 1, timeout_ms) == 1 && recv(fd_, &byte, 1, MSG_PEEK) <= 0;
}

void SocketClient::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void SocketClient::reset() {
  const linger now{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close();
}

std::string request_text(std::string_view method, std::string_view path, std::string_view body,
                         std::string_view more_headers) {
  return fmt::format("{} {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{}\r\n{}", method, path,
                     body.size(), more_headers, body);
}

std::string unchunked(std::string_view body) {
  std::string out;
  while (!body.empty()) {
    const size_t line = body.find("\r\n");
    if (line == std::string_view::npos) break;
    const size_t n = std::strtoul(std::string(body.substr(0, line)).c_str(), nullptr, 16);
    if (n == 0) break;
    out += body.substr(line + 2, n);
    body.remove_prefix(std::min(body.size(), line + 2 + n + 2));
  }
  return out;
}

PlainResponse fetch(int port, std::string_view method, std::string_view path, std::string_view body,
                    std::string_view more_headers) {
  SocketClient client(port);
  if (!client.is_open()) return {};
  client.send(
      request_text(method, path, body, fmt::format("Connection: close\r\n{}", more_headers)));
  PlainResponse response;
  response.head = client.read_until("\r\n\r\n");
  if (response.head.size() > 12) response.status = std::atoi(response.head.c_str() + 9);
  response.body = client.read_all();
  if (response.head.find("Transfer-Encoding: chunked") != std::string::npos)
    response.body = unchunked(response.body);
  return response;
}

}  // namespace lapidary::server
