// From an Ask to answers on their way: requests submitted, tokens turned into what an API's writer
// says, and all of it cancelled when the client goes.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "runtime/server/answer.h"
#include "runtime/server/ask.h"
#include "runtime/server/http.h"
#include "runtime/server/metrics.h"
#include "runtime/server/served_model.h"

namespace lapidary::server {

struct AnsweringOptions {
  std::string account;  // see Request::account
  std::chrono::seconds answer_limit{600};
  bool is_anthropic = false;  // form of errors
};

// Returns when the requests are with the scheduler; the exchange is answered later, from its
// thread. Throws when nothing was begun: the caller answers then.
void start_answering(const Ask& ask, ModelUse use, std::unique_ptr<AnswerWriter> writer,
                     std::shared_ptr<Exchange> exchange, Metrics& metrics,
                     const AnsweringOptions& options);

}  // namespace lapidary::server
