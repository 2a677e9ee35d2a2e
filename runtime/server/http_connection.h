// One client's connection, plain or under TLS: requests in turn, each answered before the next.
//
// While an answer is made, the connection keeps reading ahead: that is how it learns that the
// client has gone. What it reads then is the beginning of the next request. One timer bounds every
// step that waits for the client.
#pragma once

#include <memory>

#include "runtime/server/http.h"

namespace lapidary::server {

class HttpConnection {
 public:
  virtual ~HttpConnection() = default;
  virtual void start() = 0;
  // No further request after the present one; closes when there is none.
  virtual void drain() = 0;
  virtual void abort() = 0;
};

}  // namespace lapidary::server
