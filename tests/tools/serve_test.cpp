// `lapidary serve` as a client meets it: the real binary, over loopback.
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/fuzz/mutator.h"
#include "tests/runtime/server/socket_client.h"
#include "tests/test_data.h"
#include "tests/tools/command_runner.h"
#include "tests/tools/server_process.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;
using server::fetch;
using server::PlainResponse;
using server::SocketClient;

const std::string kChat = "/v1/chat/completions";

class Serve : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    model_ = folder_->file("nano-e.lap");
    const Outcome o = lapidary_command(
        {"quantize", data_path("nano-e"), "-o", model_, "--weights", "w4", "--quiet"});
    ASSERT_EQ(o.status, 0) << o.err;
  }
  static void TearDownTestSuite() { delete folder_; }

  static std::string question(const std::string& text, Json more = Json::object()) {
    Json body{{"messages", {{{"role", "user"}, {"content", text}}}},
              {"temperature", 0},
              {"max_tokens", 30}};
    body.update(more);
    return body.dump();
  }
  static std::string answer(int port, const std::string& body) {
    const PlainResponse response = fetch(port, "POST", kChat, body);
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body)["choices"][0]["message"]["content"];
  }
  // A stream that only the limit ends; returns once its first event is there.
  static void begin_stream(SocketClient& client, int max_tokens) {
    client.send(server::request_text(
        "POST", kChat,
        question("Hi", {{"stream", true},
                        {"max_tokens", max_tokens},
                        {"logit_bias", {{"1", -100}, {"6", -100}, {"14", -100}}}})));
    client.read_until("data: ");
  }
  static std::string adapter() { return data_path("nano-e/reference/lora_final"); }

  static TemporaryFolder* folder_;
  static std::string model_;
};
TemporaryFolder* Serve::folder_ = nullptr;
std::string Serve::model_;

const std::string kReverse = "Reverse the order of these words: bridge island harbor";

TEST_F(Serve, AnswersAsRunDoes) {
  ServerProcess serve({model_});
  ASSERT_GT(serve.port(), 0);
  EXPECT_EQ(fetch(serve.port(), "GET", "/health").body, R"({"status":"ok"})");
  const Outcome run =
      lapidary_command({"run", model_, "--greedy", "--json", "--max-tokens", "30", "-p", kReverse});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(answer(serve.port(), question(kReverse)), Json::parse(run.out)["text"]);
  // The second time from the prefix cache where it reaches, with the same words.
  EXPECT_EQ(answer(serve.port(), question(kReverse)), Json::parse(run.out)["text"]);
}

TEST_F(Serve, ManyClientsGetWhatOneGets) {
  ServerProcess serve(
      {model_, "--adapter", "tuned=" + adapter(), "--parallel", "4", "--draft", "4"});
  ASSERT_GT(serve.port(), 0);
  const Json schema{{"type", "json_schema"},
                    {"json_schema", {{"name", "s"}, {"schema", {{"enum", {"yes", "no"}}}}}}};
  std::vector<std::string> asked;
  for (int i = 0; i < 12; ++i)
    asked.push_back(question(i % 2 ? kReverse : "What is " + std::to_string(20 + i) + " + 31?",
                             i % 3 == 0   ? Json{{"model", "tuned"}}
                             : i % 3 == 1 ? Json{{"response_format", schema}}
                                          : Json{{"temperature", 0.8}, {"seed", i}}));
  std::vector<std::string> alone, together(asked.size());
  for (const std::string& body : asked) alone.push_back(answer(serve.port(), body));
  std::vector<std::thread> clients;
  for (size_t i = 0; i < asked.size(); ++i)
    clients.emplace_back([&, i] { together[i] = answer(serve.port(), asked[i]); });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(together, alone);
}

TEST_F(Serve, AnAssistantChangesNoAnswer) {
  const TemporaryFolder folder;
  const std::string assistant = folder.file("assistant.lap");
  ASSERT_EQ(lapidary_command({"convert", data_path("tiny-assistant"), "-o", assistant}).status, 0);
  ServerProcess plain({model_}), ahead({model_, "--draft-model", "nano-e=" + assistant});
  ASSERT_GT(plain.port(), 0);
  ASSERT_GT(ahead.port(), 0);
  for (int i = 0; i < 4; ++i) {
    const std::string body = question(kReverse, Json{{"temperature", 0.5 * i}, {"seed", i}});
    EXPECT_EQ(answer(ahead.port(), body), answer(plain.port(), body));
  }
  const std::string metrics = fetch(ahead.port(), "GET", "/metrics").body;
  const std::string name = "lapidary_accepted_tokens_total{model=\"nano-e\"} ";
  const size_t at = metrics.find(name);
  ASSERT_NE(at, std::string::npos);
  EXPECT_GT(std::stoi(metrics.substr(at + name.size())), 0);
}

TEST_F(Serve, ModelsAreLoadedOnDemandWithinTheMemory) {
  // One takes 7.0 MB, with its sequence: there is room for one of the two.
  ServerProcess two({model_, "--model", "other=" + model_, "--memory", "10MB", "--parallel", "1",
                     "--context", "4096", "--prefix-cache", "0"});
  ASSERT_GT(two.port(), 0);
  const auto loaded = [&] {
    std::string names;
    const Json list = Json::parse(fetch(two.port(), "GET", "/v1/models").body);
    for (const Json& model : list["data"])
      if (model["is_loaded"]) names += model["id"].get<std::string>() + " ";
    return names;
  };
  EXPECT_EQ(loaded(), "nano-e ");
  const std::string first = answer(two.port(), question(kReverse));
  EXPECT_EQ(answer(two.port(), question(kReverse, {{"model", "other"}})), first);
  EXPECT_EQ(loaded(), "other ");
  // While one is busy, the other must wait.
  SocketClient busy(two.port());
  busy.send(server::request_text(
      "POST", kChat,
      question("Hi", {{"model", "other"},
                      {"stream", true},
                      {"max_tokens", 4000},
                      {"logit_bias", {{"1", -100}, {"6", -100}, {"14", -100}}}})));
  busy.read_until("data: ");
  const PlainResponse refused = fetch(two.port(), "POST", kChat, question("Hi"));
  EXPECT_EQ(refused.status, 503) << refused.body;
  EXPECT_NE(refused.head.find("Retry-After"), std::string::npos);
  EXPECT_EQ(refused.body.find(folder_->path()), std::string::npos) << "no paths in errors";
}

TEST_F(Serve, WrongOptionsAreOneLine) {
  expect_error(lapidary_command({"serve", model_, "--draft-model", "other=x.lap"}), 64, "other");
  expect_error(lapidary_command({"serve", model_, "--draft-model", model_}), 64,
               "not an assistant");
  expect_error(lapidary_command({"serve"}), 64, "needs a model");
  expect_error(lapidary_command({"serve", "/nowhere/x.lap"}), 66, "/nowhere/x.lap");
  expect_error(lapidary_command({"serve", model_, "--model", "x=/nowhere/y.lap"}), 66, "/nowhere");
  expect_error(lapidary_command({"serve", model_, "--model", "x"}), 64, "NAME=PATH");
  expect_error(lapidary_command({"serve", model_, "--model", "nano-e=" + model_}), 64, "twice");
  expect_error(lapidary_command({"serve", model_, "--adapter", "a=/nowhere"}), 66, "/nowhere");
  expect_error(lapidary_command({"serve", model_, "--host", "somewhere"}), 64, "somewhere");
  expect_error(lapidary_command({"serve", model_, "--tls-cert", "x"}), 64, "key");
  expect_error(lapidary_command({"serve", model_, "--api-key-file", "/nowhere"}), 66, "/nowhere");
  expect_error(lapidary_command({"serve", model_, "--memory", "1MB"}), 75, "memory");
}

TEST_F(Serve, SigtermFinishesAnswersAndExitsWell) {
  ServerProcess serve({model_});
  ASSERT_GT(serve.port(), 0);
  SocketClient busy(serve.port());
  begin_stream(busy, 200);
  serve.signal(SIGTERM);
  EXPECT_NE(busy.read_until("[DONE]").find("\"finish_reason\":\"length\""), std::string::npos);
  EXPECT_EQ(serve.wait(), 0);
}

TEST_F(Serve, ASecondSignalEndsItAtOnce) {
  ServerProcess serve({model_});
  ASSERT_GT(serve.port(), 0);
  SocketClient busy(serve.port());
  begin_stream(busy, 3000);
  serve.signal(SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  serve.signal(SIGINT);
  EXPECT_EQ(serve.wait(), 130);
}

TEST_F(Serve, KeysAreAskedFor) {
  std::ofstream(folder_->file("keys")) << "# ours\nsecret-1\n\nsecret-2\n";
  ServerProcess serve({model_, "--api-key-file", folder_->file("keys")});
  ASSERT_GT(serve.port(), 0);
  EXPECT_EQ(fetch(serve.port(), "GET", "/health").status, 200);
  EXPECT_EQ(fetch(serve.port(), "GET", "/v1/models").status, 401);
  EXPECT_EQ(
      fetch(serve.port(), "GET", "/v1/models", "", "Authorization: Bearer secret-2\r\n").status,
      200);
  EXPECT_EQ(fetch(serve.port(), "POST", kChat, question("Hi"), "Authorization: Bearer secret-3\r\n")
                .status,
            401);
}

// Malformed requests: half of them broken as HTTP, half as JSON. The server answers or closes, goes
// on answering others, and keeps no memory of them.
TEST_F(Serve, AThousandMalformedRequestsLeaveItAsItWas) {
  ServerProcess serve({model_, "--prefix-cache", "0"});
  ASSERT_GT(serve.port(), 0);
  const std::string expected = answer(serve.port(), question(kReverse));
  const std::string good = question("Hi", {{"max_tokens", 2},
                                           {"stop", "x"},
                                           {"tools", Json::array()},
                                           {"response_format", {{"type", "text"}}}});
  const char* paths[] = {"/v1/chat/completions", "/v1/completions", "/v1/responses",
                         "/v1/messages",         "/v1/embeddings",  "/tokenize"};
  uint64_t before = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    if (i == 200) before = serve.resident_bytes();
    Mutator mutator(i);
    const auto mutated = [&](const std::string& text) {
      const std::vector<uint8_t> bytes(text.begin(), text.end());
      const std::vector<uint8_t> out = mutator.mutate(bytes, bytes);
      return std::string(out.begin(), out.end());
    };
    const std::string path = paths[i % 6];
    SocketClient client(serve.port());
    ASSERT_TRUE(client.is_open());
    if (i % 2) {
      client.send(server::request_text("POST", path, mutated(good), "Connection: close\r\n"));
      EXPECT_EQ(client.read_until("\r\n").substr(0, 9), "HTTP/1.1 ");
    } else {
      client.send(mutated(server::request_text("POST", path, good, "Connection: close\r\n")));
      client.read_until("\r\n", 20);
    }
  }
  EXPECT_EQ(answer(serve.port(), question(kReverse)), expected);
  // Freed memory stays with the allocator in part: 16 MiB are far below 800 requests' worth of
  // anything that grows (sequences alone are over 1 MB each).
  EXPECT_LT(serve.resident_bytes(), before + (16u << 20));
}

TEST_F(Serve, TwoHundredAbruptDisconnectsLeaveItAsItWas) {
  ServerProcess serve({model_, "--prefix-cache", "0"});
  ASSERT_GT(serve.port(), 0);
  const std::string expected = answer(serve.port(), question(kReverse));
  const std::string body =
      question("Hi", {{"stream", true},
                      {"max_tokens", 3000},
                      {"logit_bias", {{"1", -100}, {"6", -100}, {"14", -100}}}});
  uint64_t before = 0;
  for (int i = 0; i < 200; ++i) {
    if (i == 40) before = serve.resident_bytes();
    SocketClient client(serve.port());
    ASSERT_TRUE(client.is_open());
    const std::string request = server::request_text("POST", kChat, body);
    client.send(i % 4 == 0 ? request.substr(0, request.size() / 2) : request);
    if (i % 4 > 1) client.read_until("data: ");
    i % 2 ? client.reset() : client.close();
  }
  EXPECT_EQ(answer(serve.port(), question(kReverse)), expected);
  EXPECT_LT(serve.resident_bytes(), before + (16u << 20));
  // Cancelled answers do not run on: 200 of 3000 tokens would take minutes.
  std::string metrics;
  for (int i = 0; i < 100; ++i) {
    metrics = fetch(serve.port(), "GET", "/metrics").body;
    if (metrics.find("lapidary_answers_running{model=\"nano-e\"} 0\n") != std::string::npos &&
        metrics.find("lapidary_answers_waiting{model=\"nano-e\"} 0\n") != std::string::npos)
      break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_NE(metrics.find("lapidary_answers_running{model=\"nano-e\"} 0\n"), std::string::npos);
}

TEST_F(Serve, IdleConnectionsCostLittle) {
  ServerProcess serve({model_});
  ASSERT_GT(serve.port(), 0);
  const auto connect = [&](std::vector<std::unique_ptr<SocketClient>>& to, int n) {
    for (int i = 0; i < n; ++i) {
      to.push_back(std::make_unique<SocketClient>(serve.port()));
      to.back()->send(server::request_text("GET", "/health"));
      to.back()->read_until("ok");
    }
  };
  std::vector<std::unique_ptr<SocketClient>> clients;
  connect(clients, 50);
  const uint64_t before = serve.resident_bytes();
  connect(clients, 400);
  EXPECT_LT(serve.resident_bytes() - before, 400u * (64u << 10));
}

}  // namespace
}  // namespace lapidary
