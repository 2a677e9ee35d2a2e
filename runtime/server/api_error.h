// What went wrong with a request, as the two families of APIs say it.
//
// An Error of the project becomes a Fault by its code; ApiError carries one with the field that is
// to blame. Statuses: 400 the request, 401 the key, 404 the path or the model, 429 the queue, 503
// memory or closing, 504 over its time, 500 ourselves.
#pragma once

#include <exception>
#include <string>

#include "formats/error.h"
#include "runtime/server/http.h"

namespace lapidary::server {

struct Fault {
  int status = 400;
  std::string message;
  std::string param = {};  // the field, as "messages[0].content"; empty: none
  std::string code = {};   // "model_not_found"; empty: none
};

class ApiError : public Error {
 public:
  explicit ApiError(Fault fault)
      : Error(ErrorCode::kUsage, fault.message), fault_(std::move(fault)) {}
  const Fault& fault() const { return fault_; }

 private:
  Fault fault_;
};

// Throws the ApiError of a field.
[[noreturn]] void refuse_field(const std::string& param, const std::string& message);

Fault fault_of(const std::exception& error);

// {"error": {"message", "type", "param", "code"}}
std::string openai_error(const Fault& fault);
// {"type": "error", "error": {"type", "message"}}
std::string anthropic_error(const Fault& fault);

// The same as a response; 429 and 503 say when to come again.
HttpResponse error_response(const Fault& fault, bool is_anthropic = false);

}  // namespace lapidary::server
