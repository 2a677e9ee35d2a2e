// The client against our own server: connections kept and lost, keys, refusals.
#include "runtime/server/http_client.h"

#include <gtest/gtest.h>

#include "formats/error.h"
#include "tests/runtime/server/running_server.h"

namespace lapidary::server {
namespace {

std::string url_of(const RunningServer& server, const std::string& path = "") {
  return "http://127.0.0.1:" + std::to_string(server.port()) + path;
}

TEST(HttpClient, PostsJsonWithItsKeyOverOneConnection) {
  RunningServer server([](HttpRequest request, std::shared_ptr<Exchange> exchange) {
    HttpResponse response;
    response.status = request.path == "/v1/completions" ? 200 : 404;
    response.body = request.body + "|" + std::string(request.header("authorization")) + "|" +
                    std::string(request.header("content-type"));
    exchange->respond(std::move(response));
  });
  HttpClient client(url_of(server), {.api_key = "secret"});
  for (int i = 0; i < 3; ++i) {
    const HttpResponse answer = client.post("/completions", "{}");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "{}|Bearer secret|application/json");
  }
  EXPECT_EQ(server.server->n_connections(), 1);
  EXPECT_EQ(HttpClient(url_of(server, "/other/"), {}).post("/completions", "{}").status, 404);
}

TEST(HttpClient, ConnectsAgainWhenItsConnectionWasClosed) {
  HttpOptions options;
  options.idle_limit = std::chrono::seconds(1);
  RunningServer server(
      [](HttpRequest, std::shared_ptr<Exchange> exchange) { exchange->respond({}); }, options);
  HttpClient client(url_of(server), {});
  EXPECT_EQ(client.post("/a", "{}").status, 200);
  while (server.server->n_connections() > 0) std::this_thread::sleep_for(options.idle_limit / 10);
  EXPECT_EQ(client.post("/a", "{}").status, 200);
}

TEST(HttpClient, SaysWhatIsWrong) {
  for (const char* url : {"", "localhost:80", "ftp://a", "http://", "http://a b", "http://a:x/\n",
                          "http://a/ b", "http://a:"})
    EXPECT_THROW(HttpClient(url, {}), Error) << url;
  int port = 0;
  {
    RunningServer server([](HttpRequest, std::shared_ptr<Exchange>) {});
    port = server.port();
    HttpClient patient(url_of(server), {.api_key = "", .limit = std::chrono::seconds(1)});
    EXPECT_THROW(patient.post("/never", "{}"), Error);  // no answer in time
  }
  try {
    HttpClient("http://127.0.0.1:" + std::to_string(port), {}).post("/a", "{}");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kIo);
  }
}

TEST(HttpClient, RefusesAnAnswerThatIsTooLarge) {
  RunningServer server([](HttpRequest, std::shared_ptr<Exchange> exchange) {
    HttpResponse response;
    response.body = std::string(100'000, 'x');
    exchange->respond(std::move(response));
  });
  HttpClient client(url_of(server), {.api_key = "", .max_body_bytes = 1000});
  EXPECT_THROW(client.post("/a", "{}"), Error);
}

}  // namespace
}  // namespace lapidary::server
