// Calls the API as a function and takes its answers apart.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/server/api.h"
#include "tests/runtime/server/fake_models.h"
#include "tests/runtime/server/recorded_exchange.h"

namespace lapidary::server {

struct Event {
  std::string name, data;
};
// Server-sent events; fails the test for what is none.
std::vector<Event> events_of(const std::string& body);

class ApiTest : public ::testing::Test {
 protected:
  std::shared_ptr<RecordedExchange> send(HttpRequest request) {
    auto exchange = std::make_shared<RecordedExchange>();
    api_.handle(request, exchange);
    return exchange;
  }
  HttpResponse post(const std::string& path, const std::string& body) {
    return send({"POST", path, "", body, {}})->wait();
  }
  HttpResponse get(const std::string& path) { return send({"GET", path, "", "", {}})->wait(); }

  FakeModels models_;
  Api api_{models_, ApiOptions{}};
  FakeModel& model() { return *models_.model; }
};

}  // namespace lapidary::server
