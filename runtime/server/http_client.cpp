// A coroutine per exchange, run to its end by the caller's thread: that is how Beast keeps time.
#include "runtime/server/http_client.h"

#include <algorithm>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <cctype>
#include <exception>
#include <optional>

#include "formats/error.h"

namespace lapidary::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

struct Address {
  bool is_tls = false;
  std::string host, port, path;
};

[[noreturn]] void refuse_url(const std::string& url) {
  fail(ErrorCode::kUsage, "\"{}\" is no server: expected http://HOST[:PORT][/PATH] or https://",
       url);
}

Address parse_url(const std::string& url) {
  Address address;
  std::string rest;
  for (const std::string scheme : {"http://", "https://"})
    if (url.starts_with(scheme)) {
      address.is_tls = scheme.size() == 8;
      rest = url.substr(scheme.size());
    }
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string authority = rest.substr(0, slash);
  address.path = rest.substr(slash);
  while (address.path.ends_with('/')) address.path.pop_back();
  if (address.path.empty()) address.path = "/v1";
  address.port = address.is_tls ? "443" : "80";
  const size_t bracket = authority.rfind(']'), colon = authority.rfind(':');
  if (colon != std::string::npos && (bracket == std::string::npos || colon > bracket)) {
    address.port = authority.substr(colon + 1);
    authority.resize(colon);
  }
  if (authority.starts_with('[') && authority.ends_with(']'))
    authority = authority.substr(1, authority.size() - 2);
  address.host = authority;
  const auto is_plain = [](const std::string& text, std::string_view more) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [&](unsigned char c) {
      return std::isalnum(c) || more.find(char(c)) != std::string_view::npos;
    });
  };
  if (!is_plain(address.host, ".-_:") || !is_plain(address.port, "") ||
      !is_plain(address.path, "/.-_~%"))
    refuse_url(url);
  return address;
}

}  // namespace

struct HttpClient::State {
  Address address;
  HttpClientOptions options;
  asio::io_context loop{1};
  asio::ssl::context tls{asio::ssl::context::tls_client};
  std::optional<beast::tcp_stream> plain;
  std::optional<TlsStream> secure;
  beast::flat_buffer buffer;

  beast::tcp_stream& lowest() { return secure ? beast::get_lowest_layer(*secure) : *plain; }
  bool is_connected() const { return plain || secure; }
  void close() {
    plain.reset();
    secure.reset();
    buffer.clear();
  }

  asio::awaitable<void> connect() {
    asio::ip::tcp::resolver resolver(loop);
    const auto endpoints =
        co_await resolver.async_resolve(address.host, address.port, asio::use_awaitable);
    if (address.is_tls)
      secure.emplace(loop, tls);
    else
      plain.emplace(loop);
    lowest().expires_after(options.limit);
    co_await lowest().async_connect(endpoints, asio::use_awaitable);
    if (!secure) co_return;
    secure->set_verify_mode(asio::ssl::verify_peer);
    secure->set_verify_callback(asio::ssl::host_name_verification(address.host));
    SSL_set_tlsext_host_name(secure->native_handle(), address.host.c_str());
    co_await secure->async_handshake(asio::ssl::stream_base::client, asio::use_awaitable);
  }

  template <class Stream>
  asio::awaitable<void> exchange(Stream& stream, const http::request<http::string_body>& request,
                                 http::response_parser<http::string_body>& parser) {
    lowest().expires_after(options.limit);
    co_await http::async_write(stream, request, asio::use_awaitable);
    co_await http::async_read(stream, buffer, parser, asio::use_awaitable);
  }

  asio::awaitable<void> send(const http::request<http::string_body>& request,
                             http::response_parser<http::string_body>& parser) {
    if (!is_connected()) co_await connect();
    if (secure)
      co_await exchange(*secure, request, parser);
    else
      co_await exchange(*plain, request, parser);
  }

  // Throws boost::system::system_error.
  HttpResponse once(const http::request<http::string_body>& request) {
    http::response_parser<http::string_body> parser;
    parser.body_limit(options.max_body_bytes);
    std::exception_ptr failure;
    loop.restart();
    asio::co_spawn(loop, send(request, parser), [&](std::exception_ptr e) { failure = e; });
    loop.run();
    if (failure) {
      close();
      std::rethrow_exception(failure);
    }
    HttpResponse response;
    response.status = static_cast<int>(parser.get().result_int());
    response.body = std::move(parser.get().body());
    if (!parser.get().keep_alive()) close();
    return response;
  }
};

HttpClient::HttpClient(const std::string& url, HttpClientOptions options)
    : state_(std::make_unique<State>()) {
  state_->address = parse_url(url);
  state_->options = std::move(options);
  boost::system::error_code ignored;
  state_->tls.set_default_verify_paths(ignored);
}

HttpClient::~HttpClient() = default;

const std::string& HttpClient::host() const { return state_->address.host; }

HttpResponse HttpClient::post(const std::string& path, const std::string& json) {
  State& s = *state_;
  http::request<http::string_body> request(http::verb::post, s.address.path + path, 11);
  request.set(http::field::host, s.address.host + ":" + s.address.port);
  request.set(http::field::content_type, "application/json");
  if (!s.options.api_key.empty())
    request.set(http::field::authorization, "Bearer " + s.options.api_key);
  request.body() = json;
  request.prepare_payload();
  // A connection that was kept may have been closed meanwhile.
  for (bool is_kept = s.is_connected();; is_kept = false) try {
      return s.once(request);
    } catch (const boost::system::system_error& e) {
      if (!is_kept)
        fail(ErrorCode::kIo, "{}:{}: {}", s.address.host, s.address.port, e.code().message());
    }
}

}  // namespace lapidary::server
