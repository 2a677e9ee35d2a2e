// The table of endpoints. Requests never name files: paths are compared with this table and nothing
// else.
#include "runtime/server/api.h"

#include <fmt/format.h>

#include "runtime/server/endpoint.h"

namespace lapidary::server {
namespace {

void health(const Call& call) { call.respond(R"({"status":"ok"})"); }

void show_metrics(const Call& call) {
  HttpResponse response;
  response.body = call.metrics.text(call.models);
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  call.exchange->respond(std::move(response));
}

struct Route {
  const char *method, *path;  // a path that ends in / stands for all that begin with it
  Endpoint* endpoint;
  bool is_open = false;       // without a key
  bool is_anthropic = false;  // form of errors
};

constexpr Route kRoutes[] = {
    {"GET", "/", show_page, true},
    {"GET", "/health", health, true},
    {"GET", "/metrics", show_metrics},
    {"GET", "/v1/models", list_models},
    {"GET", "/v1/models/", show_model},
    {"POST", "/v1/chat/completions", chat_completions},
    {"POST", "/v1/completions", completions},
    {"POST", "/v1/responses", responses},
    {"POST", "/v1/messages", messages, false, true},
    {"POST", "/v1/messages/count_tokens", count_tokens, false, true},
    {"POST", "/v1/embeddings", embeddings},
    {"POST", "/tokenize", tokenize},
    {"POST", "/detokenize", detokenize},
};

bool matches(const Route& route, std::string_view path) {
  const std::string_view own(route.path);
  if (own.size() > 1 && own.ends_with('/'))
    return path.size() > own.size() && path.starts_with(own);
  return path == own;
}

// Null: no such path. Throws ApiError 405 when the path has another method.
const Route* find_route(const HttpRequest& request) {
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  const Route* other = nullptr;
  for (const Route& route : kRoutes) {
    if (!matches(route, request.path)) continue;
    if (method == route.method) return &route;
    other = &route;
  }
  if (other) throw ApiError({405, fmt::format("{} takes {}", other->path, other->method)});
  return nullptr;
}

// Counts the answer's status, whenever it comes.
class CountingExchange : public Exchange {
 public:
  CountingExchange(std::shared_ptr<Exchange> to, Metrics& metrics)
      : to_(std::move(to)), metrics_(metrics) {}
  void set_path(std::string path) { path_ = std::move(path); }

  void respond(HttpResponse response) override {
    metrics_.count_request(path_, response.status);
    to_->respond(std::move(response));
  }
  void begin_stream(HttpResponse head) override {
    metrics_.count_request(path_, head.status);
    to_->begin_stream(std::move(head));
  }
  void write(std::string chunk) override { to_->write(std::move(chunk)); }
  void end_stream() override { to_->end_stream(); }
  void on_gone(std::function<void()> callback) override { to_->on_gone(std::move(callback)); }

 private:
  const std::shared_ptr<Exchange> to_;
  Metrics& metrics_;
  std::string path_ = "other";
};

}  // namespace

Api::Api(ModelDirectory& models, ApiOptions options)
    : models_(models), options_(std::move(options)) {}

// Throws ApiError 401. Accounts are keys: those who share one take turns as one.
std::string Api::account_of(const HttpRequest& request) const {
  if (options_.keys.is_open()) return {};
  std::string_view key = request.header("x-api-key");
  if (std::string_view bearer = request.header("authorization"); bearer.starts_with("Bearer "))
    key = bearer.substr(7);
  if (key.empty())
    throw ApiError(
        {401, "no API key; send it as \"Authorization: Bearer KEY\"", "", "invalid_api_key"});
  const auto found = options_.keys.find(key);
  if (!found) throw ApiError({401, "this API key is not known", "", "invalid_api_key"});
  return fmt::format("key {}", *found);
}

void Api::handle(const HttpRequest& request, std::shared_ptr<Exchange> way_back) {
  const auto exchange = std::make_shared<CountingExchange>(std::move(way_back), metrics_);
  bool is_anthropic = false;
  try {
    const Route* route = find_route(request);
    if (!route) throw ApiError({404, "this server has no such path"});
    exchange->set_path(route->path);
    is_anthropic = route->is_anthropic;
    AnsweringOptions answering;
    if (!route->is_open) answering.account = account_of(request);
    answering.answer_limit = options_.answer_limit;
    answering.is_anthropic = is_anthropic;
    route->endpoint({request, exchange, models_, metrics_, answering});
  } catch (const std::exception& e) {
    exchange->respond(error_response(fault_of(e), is_anthropic));
  }
}

}  // namespace lapidary::server
