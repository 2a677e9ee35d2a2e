// Listening, counting connections, and stopping in order.
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <list>

#include "formats/error.h"
#include "runtime/server/http_connection_asio.h"
#include "runtime/server/http_exchange.h"

namespace lapidary::server {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Tcp = asio::ip::tcp;

constexpr auto kStopPoll = std::chrono::milliseconds(50);

std::unique_ptr<asio::ssl::context> tls_context(const HttpOptions& options) {
  if (options.tls_certificate.empty() && options.tls_key.empty()) return nullptr;
  if (options.tls_certificate.empty() || options.tls_key.empty())
    fail(ErrorCode::kUsage, "TLS needs a certificate and its key");
  auto context = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  context->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                       asio::ssl::context::no_tlsv1_1);
  // An idle connection keeps no record buffers, and nothing is kept of one that ended: a client
  // that comes back pays a handshake, and memory does not grow with those who once came.
  SSL_CTX* const native = context->native_handle();
  SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(native, 0);
  error_code ec;
  context->use_certificate_chain_file(options.tls_certificate, ec);
  if (ec)
    fail(ErrorCode::kBadData, "{}: cannot use it as a certificate: {}", options.tls_certificate,
         ec.message());
  context->use_private_key_file(options.tls_key, asio::ssl::context::pem, ec);
  if (ec)
    fail(ErrorCode::kBadData, "{}: cannot use it as the certificate's key: {}", options.tls_key,
         ec.message());
  return context;
}

}  // namespace

struct HttpServer::State {
  HttpOptions options;
  HttpHandler handler;
  std::atomic<int64_t> n_connections{0};
  std::shared_ptr<asio::io_context> shared_loop = std::make_shared<asio::io_context>(1);
  asio::io_context& loop = *shared_loop;
  asio::thread_pool workers;
  std::unique_ptr<asio::ssl::context> tls;
  Tcp::acceptor acceptor{loop};
  asio::steady_timer poll{loop};
  ConnectionContext context;
  std::list<std::weak_ptr<HttpConnection>> connections;  // of the loop's thread
  std::chrono::steady_clock::time_point drain_end;
  int port = 0;
  bool is_draining = false, all_done = true;

  State(HttpOptions o, HttpHandler h)
      : options(std::move(o)),
        handler(std::move(h)),
        workers(static_cast<size_t>(options.n_workers)),
        tls(tls_context(options)),
        context{options,
                [this](HttpRequest request, std::shared_ptr<Exchange> exchange) {
                  dispatch(std::move(request), std::move(exchange));
                },
                shared_loop} {
    listen();
  }
  // Coroutines end before what they borrow.
  ~State() {
    workers.join();
    abort_all();
    loop.restart();
    while (n_connections > 0 && loop.run_one() > 0) {
    }
  }

  void listen() {
    error_code ec;
    const auto address = asio::ip::make_address(options.host, ec);
    if (ec)
      fail(ErrorCode::kUsage, "host \"{}\": expected an address such as 127.0.0.1 or 0.0.0.0",
           options.host);
    const Tcp::endpoint endpoint(address, static_cast<uint16_t>(options.port));
    acceptor.open(endpoint.protocol(), ec);
    if (!ec) acceptor.set_option(Tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor.bind(endpoint, ec);
    if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
    if (!ec) port = acceptor.local_endpoint(ec).port();
    if (ec)
      fail(ErrorCode::kIo, "cannot listen at {}:{}: {}", options.host, options.port, ec.message());
  }

  void dispatch(HttpRequest request, std::shared_ptr<Exchange> exchange) {
    if (request.body.empty()) return handler(std::move(request), std::move(exchange));
    asio::post(workers,
               [this, request = std::move(request), exchange = std::move(exchange)]() mutable {
                 handler(std::move(request), std::move(exchange));
               });
  }

  void accept() {
    acceptor.async_accept([this](error_code ec, Tcp::socket socket) {
      if (!acceptor.is_open()) return;
      if (!ec) take(std::move(socket));
      if (ec == asio::error::no_descriptors || ec == asio::error::no_buffer_space) {
        poll_accept_later();
        return;
      }
      accept();
    });
  }

  // Out of file descriptors: trying again at once would spin.
  void poll_accept_later() {
    auto timer = std::make_shared<asio::steady_timer>(loop, std::chrono::milliseconds(100));
    timer->async_wait([this, timer](error_code) { accept(); });
  }

  void take(Tcp::socket socket) {
    error_code ignored;
    socket.set_option(Tcp::no_delay(true), ignored);
    if (n_connections >= options.max_connections) return turn_away(std::move(socket));
    ++n_connections;
    const std::shared_ptr<void> place(nullptr, [this](void*) { --n_connections; });
    const auto connection = make_connection(std::move(socket), tls.get(), context, place);
    std::erase_if(connections, [](const auto& c) { return c.expired(); });
    connections.push_back(connection);
    connection->start();
  }

  // Said without looking at the request; what the socket's buffer takes at once.
  void turn_away(Tcp::socket socket) {
    if (tls) return;
    HttpExchange said([] {}, 1u << 20, false, false, false);
    said.respond(options.refusal(503, "too many connections; try again later"));
    const std::string bytes = said.take().bytes;
    error_code ignored;
    socket.non_blocking(true, ignored);
    socket.write_some(asio::buffer(bytes), ignored);
    socket.shutdown(Tcp::socket::shutdown_send, ignored);
  }

  void watch(const std::atomic<bool>& stop) {
    poll.expires_after(kStopPoll);
    poll.async_wait([this, &stop](error_code ec) {
      if (ec) return;
      if (stop && !is_draining) begin_drain();
      if (is_draining && n_connections == 0) return;  // the loop runs out of work
      if (is_draining && std::chrono::steady_clock::now() > drain_end) return cut();
      watch(stop);
    });
  }

  void begin_drain() {
    is_draining = true;
    drain_end = std::chrono::steady_clock::now() + options.drain_limit;
    error_code ignored;
    acceptor.close(ignored);
    for (const auto& weak : connections)
      if (const auto connection = weak.lock()) connection->drain();
  }

  void cut() {
    all_done = false;
    loop.stop();
  }

  void abort_all() {
    for (const auto& weak : connections)
      if (const auto connection = weak.lock()) connection->abort();
  }
};

HttpServer::HttpServer(HttpOptions options, HttpHandler handler)
    : state_(std::make_unique<State>(std::move(options), std::move(handler))) {}

HttpServer::~HttpServer() = default;

int HttpServer::port() const { return state_->port; }

int64_t HttpServer::n_connections() const { return state_->n_connections; }

bool HttpServer::run(const std::atomic<bool>& stop) {
  state_->accept();
  state_->watch(stop);
  state_->loop.run();
  return state_->all_done;
}

}  // namespace lapidary::server
