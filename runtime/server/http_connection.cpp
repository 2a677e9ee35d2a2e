// The coroutine of one connection, over either kind of stream.
#include "runtime/server/http_connection.h"

#include <algorithm>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "runtime/server/http_connection_asio.h"
#include "runtime/server/http_exchange.h"

namespace lapidary::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;
using asio::awaitable;

constexpr auto kLinger = std::chrono::seconds(1);
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

template <class Stream>
class Connection : public HttpConnection, public std::enable_shared_from_this<Connection<Stream>> {
 public:
  Connection(Stream stream, ConnectionContext& context, std::shared_ptr<void> place)
      : stream_(std::move(stream)),
        context_(context),
        place_(std::move(place)),
        deadline_(stream_.get_executor()),
        wake_(stream_.get_executor()) {
    wake_.expires_at(asio::steady_timer::time_point::max());
  }

  void start() override {
    asio::co_spawn(
        stream_.get_executor(), [self = this->shared_from_this()] { return self->serve(); },
        asio::detached);
  }
  void drain() override {
    is_draining_ = true;
    if (!exchange_) abort();
  }
  void abort() override {
    error_code ignored;
    stream_.lowest_layer().close(ignored);
    if (exchange_) exchange_->set_gone();
    wake_.cancel();
  }

 private:
  // Whatever waits for the client after this has so long; then the socket is closed under it.
  void limit(std::chrono::seconds time) {
    deadline_.expires_after(time);
    deadline_.async_wait([weak = this->weak_from_this()](error_code ec) {
      if (ec) return;
      if (const auto self = weak.lock()) self->abort();
    });
  }
  void no_limit() { deadline_.cancel(); }

  void read_ahead() {
    if (is_reading_ || is_closed_ || buffer_.size() > 0) return;
    is_reading_ = true;
    stream_.async_read_some(buffer_.prepare(1024),
                            [self = this->shared_from_this()](error_code ec, size_t n) {
                              self->is_reading_ = false;
                              self->buffer_.commit(n);
                              self->is_closed_ = bool(ec);
                              if (ec && self->exchange_) self->exchange_->set_gone();
                              self->wake_.cancel();
                            });
  }

  awaitable<void> serve() {
    if constexpr (!std::is_same_v<Stream, Tcp::socket>) {
      limit(context_.options.receive_limit);
      const auto [ec] = co_await stream_.async_handshake(asio::ssl::stream_base::server, kAwait);
      if (ec) co_return no_limit();
    }
    // g++ 12 miscompiles co_await in a loop's condition: one statement each.
    for (bool goes_on = true; goes_on && !is_draining_;) {
      goes_on = co_await wait_for_request();
      if (!goes_on) break;
      goes_on = co_await serve_one();
    }
    no_limit();
    co_await close();
  }

  awaitable<bool> wait_for_request() {
    limit(context_.options.idle_limit);
    read_ahead();
    while (is_reading_) co_await wake_.async_wait(kAwait);
    co_return buffer_.size() > 0 && !(is_draining_ && is_closed_);
  }

  // False: the connection ends.
  awaitable<bool> serve_one() {
    http::request_parser<http::string_body> parser;
    parser.header_limit(static_cast<uint32_t>(context_.options.max_header_bytes));
    parser.body_limit(context_.options.max_body_bytes);
    limit(context_.options.receive_limit);
    auto [ec, n_header] = co_await http::async_read_header(stream_, buffer_, parser, kAwait);
    if (!ec && !parser.is_done()) {
      if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
        static const std::string kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
        co_await asio::async_write(stream_, asio::buffer(kContinue), kAwait);
      }
      limit(context_.options.receive_limit);
      auto [body_ec, n_body] = co_await http::async_read(stream_, buffer_, parser, kAwait);
      ec = body_ec;
    }
    if (ec) {
      co_await refuse(ec);
      co_return false;
    }
    no_limit();
    begin_answer(parser.release());
    const bool goes_on = co_await send_answer();
    exchange_.reset();
    co_return goes_on;
  }

  static HttpRequest plain(http::request<http::string_body>&& message) {
    HttpRequest request;
    request.method = std::string(message.method_string());
    const std::string target(message.target());
    const size_t question = target.find('?');
    request.path = target.substr(0, question);
    if (question != std::string::npos) request.query = target.substr(question + 1);
    for (const auto& field : message)
      request.headers.push_back({std::string(field.name_string()), std::string(field.value())});
    request.body = std::move(message.body());
    return request;
  }

  std::shared_ptr<HttpExchange> new_exchange(bool keeps_alive, bool is_http_1_0, bool is_head) {
    const auto wake = [weak = this->weak_from_this(), loop = context_.loop] {
      asio::post(*loop, [weak] {
        const auto self = weak.lock();
        if (!self) return;
        if (self->exchange_ && self->exchange_->is_overfull()) return self->abort();
        self->wake_.cancel();
      });
    };
    return std::make_shared<HttpExchange>(wake, context_.options.max_unsent_bytes, keeps_alive,
                                          is_http_1_0, is_head);
  }

  void begin_answer(http::request<http::string_body> message) {
    const bool keeps_alive = message.keep_alive() && !is_draining_;
    exchange_ =
        new_exchange(keeps_alive, message.version() < 11, message.method() == http::verb::head);
    context_.dispatch(plain(std::move(message)), exchange_);
    if (buffer_.size() == 0) buffer_.shrink_to_fit();  // an idle connection keeps little
    read_ahead();
  }

  awaitable<bool> send_answer() {
    for (;;) {
      HttpExchange::Outgoing out = exchange_->take();
      if (exchange_->is_gone()) co_return false;
      if (!out.bytes.empty()) {
        limit(context_.options.send_limit);
        const auto [ec, n] = co_await asio::async_write(stream_, asio::buffer(out.bytes), kAwait);
        no_limit();
        if (ec) {
          exchange_->set_gone();
          co_return false;
        }
      }
      if (out.is_last) co_return exchange_->keeps_alive() && !is_draining_;
      // Whatever came since take() has posted a wake, which runs only once this waits.
      if (out.bytes.empty()) co_await wake_.async_wait(kAwait);
    }
  }

  // A request that is none: answered in the API's form where the client may still read it.
  awaitable<void> refuse(error_code ec) {
    int status = 400;
    const char* message = "the request is not HTTP/1.1";
    if (ec == http::error::body_limit) {
      status = 413, message = "the request's body is too large";
    } else if (ec == http::error::header_limit || ec == http::error::buffer_overflow) {
      status = 431, message = "the request's header is too large";
    } else if (ec.category() != make_error_code(http::error::bad_method).category() ||
               ec == http::error::end_of_stream || ec == http::error::partial_message) {
      co_return;  // the client or the network
    }
    exchange_ = new_exchange(false, false, false);
    exchange_->respond(context_.options.refusal(status, message));
    co_await send_answer();
    exchange_.reset();
  }

  // What a client still sends is read for a moment, for closing over unread data would take the
  // answer from it.
  awaitable<void> close() {
    limit(kLinger);
    error_code ignored;
    if constexpr (!std::is_same_v<Stream, Tcp::socket>) {
      while (is_reading_ && stream_.lowest_layer().is_open()) co_await wake_.async_wait(kAwait);
      co_await stream_.async_shutdown(kAwait);
    } else {
      stream_.shutdown(Tcp::socket::shutdown_send, ignored);
      while (!is_closed_) {
        if (!is_reading_) buffer_.clear();
        read_ahead();
        while (is_reading_) co_await wake_.async_wait(kAwait);
      }
    }
    no_limit();
    stream_.lowest_layer().close(ignored);
  }

  Stream stream_;
  ConnectionContext& context_;
  std::shared_ptr<void> place_;  // among the connections that are counted
  beast::flat_buffer buffer_;
  asio::steady_timer deadline_, wake_;
  std::shared_ptr<HttpExchange> exchange_;  // of the request that is answered now
  bool is_reading_ = false, is_closed_ = false, is_draining_ = false;
};

}  // namespace

std::shared_ptr<HttpConnection> make_connection(Tcp::socket socket, asio::ssl::context* tls,
                                                ConnectionContext& context,
                                                std::shared_ptr<void> place) {
  if (!tls)
    return std::make_shared<Connection<Tcp::socket>>(std::move(socket), context, std::move(place));
  using TlsStream = asio::ssl::stream<Tcp::socket>;
  return std::make_shared<Connection<TlsStream>>(TlsStream(std::move(socket), *tls), context,
                                                 std::move(place));
}

}  // namespace lapidary::server
