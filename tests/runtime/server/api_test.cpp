// Routes, keys, and the small endpoints.
#include <nlohmann/json.hpp>

#include "tests/runtime/server/api_fixture.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::json;

TEST_F(ApiTest, UnknownPathsAndMethodsAreRefused) {
  EXPECT_EQ(get("/page.html").status, 404);
  EXPECT_EQ(get("/v1/models/../../etc/passwd").status, 404);
  EXPECT_EQ(get("/v1/chat/completions").status, 405);
  EXPECT_EQ(post("/health", "{}").status, 405);
  EXPECT_EQ(Json::parse(get("/nowhere").body)["error"]["type"], "invalid_request_error");
}

TEST_F(ApiTest, ThePageLoadsNothingFromElsewhere) {
  const HttpResponse page = get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_TRUE(page.content_type.starts_with("text/html"));
  EXPECT_TRUE(page.body.starts_with("<!doctype html>"));
  EXPECT_TRUE(page.body.ends_with("</html>\n"));
  for (const char* left : {"@PAGE_", "src=", "<link rel=\"style", "@import", "url("})
    EXPECT_EQ(page.body.find(left), std::string::npos) << left;
}

TEST_F(ApiTest, HealthAndModels) {
  EXPECT_EQ(get("/health").status, 200);
  const Json list = Json::parse(get("/v1/models").body);
  EXPECT_EQ(list["object"], "list");
  EXPECT_EQ(list["data"][0]["id"], "fake");
  EXPECT_EQ(list["data"][1]["parent"], "fake");
  EXPECT_EQ(Json::parse(get("/v1/models/tuned").body)["id"], "tuned");
}

TEST_F(ApiTest, TokenizeAndBack) {
  const Json out = Json::parse(post("/tokenize", R"({"content": "Hello there"})").body);
  EXPECT_EQ(out["tokens"].get<std::vector<int32_t>>(), model().tokenizer().encode("Hello there"));
  EXPECT_EQ(out["count"], out["tokens"].size());
  const Json back = Json::parse(post("/detokenize", Json{{"tokens", out["tokens"]}}.dump()).body);
  EXPECT_EQ(back["content"], "Hello there");
  const Json chat =
      Json::parse(post("/tokenize", R"({"messages": [{"role": "user", "content": "Hi"}]})").body);
  EXPECT_EQ(chat["tokens"][0], 2);
  EXPECT_EQ(post("/detokenize", R"({"tokens": [8192]})").status, 400);
  EXPECT_EQ(post("/detokenize", R"({"tokens": [-1]})").status, 400);
  EXPECT_EQ(post("/tokenize", "{}").status, 400);
}

TEST_F(ApiTest, MetricsAreInPrometheusForm) {
  get("/health");
  const HttpResponse response = get("/metrics");
  EXPECT_TRUE(response.content_type.starts_with("text/plain"));
  EXPECT_NE(response.body.find("lapidary_requests_total{path=\"/health\",status=\"200\"} 1\n"),
            std::string::npos);
  EXPECT_NE(response.body.find("lapidary_new_tokens_total{model=\"fake\"} 7\n"), std::string::npos);
  EXPECT_NE(response.body.find("lapidary_time_to_first_token_seconds_bucket{le=\"+Inf\"} 0\n"),
            std::string::npos);
}

TEST_F(ApiTest, BodiesThatAreNoJsonObjectAreRefused) {
  for (const char* body :
       {"", "{", "[]", "1", "\"x\"", "{\"a\":1,\"a\":2}", "{\"a\":\"\xff\"}", "{} {}"})
    EXPECT_EQ(post("/tokenize", body).status, 400) << body;
  EXPECT_EQ(post("/tokenize", std::string(100000, '[')).status, 400);
  std::string wide = "{\"x0\":0";
  for (int i = 1; i < 3000; ++i) wide += ",\"x" + std::to_string(i) + "\":0";
  EXPECT_EQ(post("/tokenize", wide + "}").status, 400);
}

class KeysTest : public ApiTest {
 protected:
  static ApiOptions with_keys() {
    ApiOptions options;
    options.keys = ApiKeys::of({"alpha", "beta"});
    return options;
  }
  int status(const std::string& header, const std::string& value) {
    auto exchange = std::make_shared<RecordedExchange>();
    api_.handle({"GET", "/v1/models", "", "", {{header, value}}}, exchange);
    return exchange->wait().status;
  }
  Api api_{models_, with_keys()};
};

TEST_F(KeysTest, OnlyKnownKeysAreLetIn) {
  EXPECT_EQ(status("Authorization", "Bearer alpha"), 200);
  EXPECT_EQ(status("authorization", "Bearer beta"), 200);
  EXPECT_EQ(status("X-Api-Key", "beta"), 200);
  EXPECT_EQ(status("Authorization", "Bearer alph"), 401);
  EXPECT_EQ(status("Authorization", "Bearer "), 401);
  EXPECT_EQ(status("Authorization", "alpha"), 401);
  EXPECT_EQ(status("Host", "x"), 401);
}

TEST_F(KeysTest, HealthNeedsNone) {
  auto exchange = std::make_shared<RecordedExchange>();
  api_.handle({"GET", "/health", "", "", {}}, exchange);
  EXPECT_EQ(exchange->wait().status, 200);
}

TEST_F(KeysTest, AccountsAreKeys) {
  auto exchange = std::make_shared<RecordedExchange>();
  api_.handle({"POST",
               "/v1/chat/completions",
               "",
               R"({"messages": [{"role": "user", "content": "Hi"}]})",
               {{"Authorization", "Bearer beta"}}},
              exchange);
  EXPECT_EQ(exchange->wait().status, 200);
  EXPECT_EQ(model().requests().at(0).account, "key 1");
}

}  // namespace
}  // namespace lapidary::server
