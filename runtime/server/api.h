// The API as one function of a request: finds the endpoint, asks for the key, answers errors in the
// form of the API that was called.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "runtime/server/api_keys.h"
#include "runtime/server/http.h"
#include "runtime/server/metrics.h"
#include "runtime/server/served_model.h"

namespace lapidary::server {

struct ApiOptions {
  ApiKeys keys;
  std::chrono::seconds answer_limit{600};
};

class Api {
 public:
  // Borrows the models.
  Api(ModelDirectory& models, ApiOptions options);

  // Never throws. Answers now, or later through the exchange.
  void handle(const HttpRequest& request, std::shared_ptr<Exchange> exchange);
  const Metrics& metrics() const { return metrics_; }

 private:
  std::string account_of(const HttpRequest& request) const;

  ModelDirectory& models_;
  const ApiOptions options_;
  Metrics metrics_;
};

}  // namespace lapidary::server
