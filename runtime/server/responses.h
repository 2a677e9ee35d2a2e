// POST /v1/responses: how a request is read and its answer written.
#pragma once

#include <memory>
#include <string>

#include "runtime/server/answer.h"
#include "runtime/server/ask.h"
#include "runtime/server/fields.h"

namespace lapidary::server {

struct ResponseAsk {
  Ask ask;
  std::string echoed_json;  // object: fields of the request that its response repeats
};
ResponseAsk read_response(const Fields& body);
std::unique_ptr<AnswerWriter> make_response_writer(const ResponseAsk& asked,
                                                   const std::string& model);

}  // namespace lapidary::server
