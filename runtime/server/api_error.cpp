// One table per family of APIs from status to type.
#include "runtime/server/api_error.h"

#include <nlohmann/json.hpp>

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const char* openai_type(int status) {
  if (status == 401) return "authentication_error";
  if (status == 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

const char* anthropic_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    case 504:
      return "timeout_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
    case ErrorCode::kBadData:
      return 400;
    case ErrorCode::kBusy:
      return 429;
    case ErrorCode::kOutOfMemory:
      return 503;
    default:
      return 500;
  }
}

}  // namespace

void refuse_field(const std::string& param, const std::string& message) {
  throw ApiError({400, param.empty() ? message : param + ": " + message, param});
}

Fault fault_of(const std::exception& error) {
  if (const auto* api = dynamic_cast<const ApiError*>(&error)) return api->fault();
  if (const auto* own = dynamic_cast<const Error*>(&error))
    return {status_of(own->code()), own->what()};
  if (dynamic_cast<const std::bad_alloc*>(&error)) return {503, "out of memory"};
  return {500, std::string("internal error: ") + error.what()};
}

std::string openai_error(const Fault& fault) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  return text_of({{"error",
                   {{"message", fault.message},
                    {"type", openai_type(fault.status)},
                    {"param", or_null(fault.param)},
                    {"code", or_null(fault.code)}}}});
}

std::string anthropic_error(const Fault& fault) {
  return text_of({{"type", "error"},
                  {"error", {{"type", anthropic_type(fault.status)}, {"message", fault.message}}}});
}

HttpResponse error_response(const Fault& fault, bool is_anthropic) {
  HttpResponse response;
  response.status = fault.status;
  response.body = is_anthropic ? anthropic_error(fault) : openai_error(fault);
  if (fault.status == 429) response.headers.push_back({"Retry-After", "1"});
  if (fault.status == 503) response.headers.push_back({"Retry-After", "5"});
  if (fault.status == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

}  // namespace lapidary::server
