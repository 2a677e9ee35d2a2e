// The other side of HTTP: requests to one server, one after another over one connection.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "runtime/server/http.h"

namespace lapidary::server {

struct HttpClientOptions {
  std::string api_key;                 // sent as a bearer token; empty: none
  std::chrono::seconds limit{300};     // for connecting, and for each answer
  uint64_t max_body_bytes = 8u << 20;  // of an answer
};

class HttpClient {
 public:
  // url: http:// or https://, host, perhaps a port and a path that all requests begin with; without
  // one they begin with /v1. Throws kUsage for anything else.
  HttpClient(const std::string& url, HttpClientOptions options);
  ~HttpClient();

  // Sends JSON to the path behind the url's own, "/completions". Connects when there is no
  // connection, and once more when the server has closed it. Throws kIo when the server cannot be
  // reached, its certificate is not trusted, or no answer comes in time.
  HttpResponse post(const std::string& path, const std::string& json);
  const std::string& host() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lapidary::server
