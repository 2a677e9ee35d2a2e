// The endpoints: each reads a request, and answers it through the exchange, now or later.
#pragma once

#include <memory>
#include <string>

#include "runtime/server/answering.h"
#include "runtime/server/fields.h"
#include "runtime/server/http.h"
#include "runtime/server/metrics.h"
#include "runtime/server/served_model.h"

namespace lapidary::server {

struct Call {
  const HttpRequest& request;
  std::shared_ptr<Exchange> exchange;
  ModelDirectory& models;
  Metrics& metrics;
  AnsweringOptions options;

  void respond(std::string json) const {
    HttpResponse response;
    response.body = std::move(json);
    exchange->respond(std::move(response));
  }
};

// Throw ApiError and Error; the router answers with these.
using Endpoint = void(const Call& call);
Endpoint chat_completions, completions, responses, messages, count_tokens, embeddings, list_models,
    show_model, show_page, tokenize, detokenize;

}  // namespace lapidary::server
