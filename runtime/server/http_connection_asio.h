// How the server makes connections: the part of http_connection.h that knows Asio.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <functional>
#include <memory>

#include "runtime/server/http_connection.h"

namespace lapidary::server {

struct ConnectionContext {
  const HttpOptions& options;
  HttpHandler dispatch;  // returns soon
  // Exchanges may outlive the server, and wake its loop to the last.
  std::shared_ptr<boost::asio::io_context> loop;
};

// `place` is held as long as the connection lives. `tls` null: plain.
std::shared_ptr<HttpConnection> make_connection(boost::asio::ip::tcp::socket socket,
                                                boost::asio::ssl::context* tls,
                                                ConnectionContext& context,
                                                std::shared_ptr<void> place);

}  // namespace lapidary::server
