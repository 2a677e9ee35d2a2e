// POST /v1/chat/completions from a request's text to an answer's.
#include <nlohmann/json.hpp>

#include "tests/runtime/server/api_fixture.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::json;

const std::string kPath = "/v1/chat/completions";

Json ask(const Json& more = Json::object()) {
  Json body{{"model", "fake"}, {"messages", {{{"role", "user"}, {"content", "Hi"}}}}};
  body.update(more);
  return body;
}

class ChatTest : public ApiTest {
 protected:
  Json answer(const Json& body) {
    const HttpResponse response = post(kPath, body.dump());
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body);
  }
  // Expects a refusal that names the field.
  void expect_refused(const Json& body, const std::string& param) {
    const HttpResponse response = post(kPath, body.dump());
    EXPECT_EQ(response.status, 400) << body;
    const Json error = Json::parse(response.body)["error"];
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_EQ(error["param"], param) << response.body;
    EXPECT_TRUE(error["message"].is_string());
    EXPECT_TRUE(model().requests().empty());
  }
};

TEST_F(ChatTest, AnswersWhole) {
  model().ending.cached_tokens = 3;
  const Json out = answer(ask());
  EXPECT_EQ(out["object"], "chat.completion");
  EXPECT_EQ(out["model"], "fake");
  EXPECT_TRUE(out["id"].get<std::string>().starts_with("chatcmpl-"));
  const Json choice = out["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"], "Hello there, friend.");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(choice["logprobs"].is_null());
  const Request request = model().requests().at(0);
  EXPECT_EQ(model().tokenizer().decode(request.prompt),
            "<bos><|turn>user\nHi<turn|>\n<|turn>model\n");
  EXPECT_EQ(out["usage"]["prompt_tokens"], request.prompt.size());
  EXPECT_EQ(out["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
  EXPECT_EQ(out["usage"]["total_tokens"],
            request.prompt.size() + out["usage"]["completion_tokens"].get<size_t>());
}

TEST_F(ChatTest, StreamsTheSameText) {
  const HttpResponse response =
      post(kPath, ask({{"stream", true}, {"stream_options", {{"include_usage", true}}}}).dump());
  EXPECT_TRUE(response.content_type.starts_with("text/event-stream"));
  const std::vector<Event> events = events_of(response.body);
  ASSERT_GT(events.size(), 4u);
  EXPECT_EQ(events.back().data, "[DONE]");
  EXPECT_EQ(Json::parse(events[0].data)["choices"][0]["delta"]["role"], "assistant");
  std::string text, finish;
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    const Json chunk = Json::parse(events[i].data);
    EXPECT_EQ(chunk["object"], "chat.completion.chunk");
    EXPECT_TRUE(chunk["usage"].is_null());
    text += chunk["choices"][0]["delta"].value("content", "");
    if (chunk["choices"][0]["finish_reason"].is_string())
      finish = chunk["choices"][0]["finish_reason"];
  }
  EXPECT_EQ(text, "Hello there, friend.");
  EXPECT_EQ(finish, "stop");
  const Json last = Json::parse(events[events.size() - 2].data);
  EXPECT_TRUE(last["choices"].empty());
  EXPECT_GT(last["usage"]["completion_tokens"], 0);
}

TEST_F(ChatTest, GivesEveryOptionToTheScheduler) {
  answer(ask({{"temperature", 0.5},
              {"top_p", 0.9},
              {"top_k", 12},
              {"min_p", 0.1},
              {"presence_penalty", 0.5},
              {"frequency_penalty", -0.5},
              {"seed", 42},
              {"n", 2},
              {"max_completion_tokens", 9},
              {"logit_bias", {{"17", -100}, {"18", 2.5}}}}));
  const std::vector<Request> requests = model().requests();
  ASSERT_EQ(requests.size(), 2u);
  const Request& r = requests[0];
  EXPECT_FLOAT_EQ(r.sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(r.sampling.top_p, 0.9f);
  EXPECT_EQ(r.sampling.top_k, 12);
  EXPECT_FLOAT_EQ(r.sampling.min_p, 0.1f);
  EXPECT_FLOAT_EQ(r.sampling.presence_penalty, 0.5f);
  EXPECT_FLOAT_EQ(r.sampling.frequency_penalty, -0.5f);
  EXPECT_EQ(r.sampling.seed, 42u);
  EXPECT_EQ(requests[1].sampling.seed, 43u);
  EXPECT_EQ(r.max_tokens, 9);
  EXPECT_EQ(r.logit_bias, (std::vector<std::pair<int32_t, float>>{{17, -100.f}, {18, 2.5f}}));
  EXPECT_TRUE(r.deadline.has_value());
}

TEST_F(ChatTest, SeveralAnswersKeepTheirPlaces) {
  model().says = [](size_t i) { return "answer " + std::to_string(i); };
  const Json out = answer(ask({{"n", 3}}));
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(out["choices"][i]["index"], i);
    EXPECT_EQ(out["choices"][i]["message"]["content"], "answer " + std::to_string(i));
  }
}

TEST_F(ChatTest, StopStringsAreCutAndHeldBack) {
  const Json out = answer(ask({{"stop", {"friend", "there,"}}}));
  EXPECT_EQ(out["choices"][0]["message"]["content"], "Hello ");
  EXPECT_EQ(out["choices"][0]["finish_reason"], "stop");
  const HttpResponse response = post(kPath, ask({{"stop", "there, f!"}, {"stream", true}}).dump());
  std::string text;
  for (const Event& event : events_of(response.body))
    if (event.data != "[DONE]")
      text += Json::parse(event.data)["choices"][0]["delta"].value("content", "");
  EXPECT_EQ(text, "Hello there, friend.") << "what only began like a stop string comes after all";
}

TEST_F(ChatTest, LengthIsToldAndTokensAreCounted) {
  const Json out = answer(ask({{"max_tokens", 2}}));
  EXPECT_EQ(out["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(out["usage"]["completion_tokens"], 2);
}

TEST_F(ChatTest, LogProbabilitiesCoverTheAnswer) {
  const Json out = answer(ask({{"logprobs", true}, {"top_logprobs", 2}}));
  const Json content = out["choices"][0]["logprobs"]["content"];
  std::string text;
  for (const Json& token : content) {
    text += token["token"];
    EXPECT_DOUBLE_EQ(token["logprob"], -0.5);
    ASSERT_EQ(token["top_logprobs"].size(), 2u);
    EXPECT_DOUBLE_EQ(token["top_logprobs"][1]["logprob"], -1.5);
    std::string bytes;
    for (const int byte : token["bytes"]) bytes += static_cast<char>(byte);
    EXPECT_EQ(bytes, token["token"]);
  }
  EXPECT_EQ(text, "Hello there, friend.");
  const HttpResponse streamed = post(kPath, ask({{"logprobs", true}, {"stream", true}}).dump());
  std::string again;
  for (const Event& event : events_of(streamed.body)) {
    if (event.data == "[DONE]") continue;
    const Json logs = Json::parse(event.data)["choices"][0]["logprobs"];
    if (!logs.is_null())
      for (const Json& token : logs["content"]) again += token["token"];
  }
  EXPECT_EQ(again, text);
}

TEST_F(ChatTest, CallsBecomeJsonAndThoughtsStandApart) {
  model().says = [](size_t) {
    return "<|channel>thought\nLet me see.\n<channel|><|tool_call>call:get_weather{city:<|\"|>Oslo"
           "<|\"|>,days:3}<tool_call|>";
  };
  const Json tools{{{"type", "function"},
                    {"function",
                     {{"name", "get_weather"},
                      {"description", "Weather"},
                      {"parameters",
                       {{"type", "object"},
                        {"properties", {{"city", {{"type", "string"}, {"description", "c"}}}}},
                        {"required", {"city"}}}}}}}};
  const Json out = answer(ask({{"tools", tools}}));
  const Json message = out["choices"][0]["message"];
  EXPECT_EQ(message["reasoning_content"], "Let me see.");
  EXPECT_TRUE(message["content"].is_null());
  EXPECT_EQ(out["choices"][0]["finish_reason"], "tool_calls");
  ASSERT_EQ(message["tool_calls"].size(), 1u);
  EXPECT_EQ(message["tool_calls"][0]["function"]["name"], "get_weather");
  EXPECT_EQ(Json::parse(message["tool_calls"][0]["function"]["arguments"].get<std::string>()),
            (Json{{"city", "Oslo"}, {"days", 3}}));
  EXPECT_GT(out["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);

  const HttpResponse streamed = post(kPath, ask({{"tools", tools}, {"stream", true}}).dump());
  std::string arguments, thought;
  for (const Event& event : events_of(streamed.body)) {
    if (event.data == "[DONE]") continue;
    const Json delta = Json::parse(event.data)["choices"][0]["delta"];
    thought += delta.value("reasoning_content", "");
    if (delta.contains("tool_calls"))
      arguments += delta["tool_calls"][0]["function"]["arguments"].get<std::string>();
  }
  EXPECT_EQ(Json::parse(arguments), (Json{{"city", "Oslo"}, {"days", 3}}));
  EXPECT_EQ(thought, "Let me see.");
}

TEST_F(ChatTest, NoToolsMeansNoCalls) {
  answer(ask({{"tool_choice", "none"}}));
  const Request request = model().requests().at(0);
  ASSERT_EQ(request.logit_bias.size(), 1u);
  EXPECT_EQ(request.logit_bias[0].first, model().tokenizer().id_of("<|tool_call>"));
  EXPECT_LT(request.logit_bias[0].second, -1000.f);
}

TEST_F(ChatTest, MessagesReachTheTemplateInItsForm) {
  answer(
      ask({{"messages",
            {{{"role", "developer"}, {"content", "Be brief."}},
             {{"role", "user"},
              {"content", {{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}}}},
             {{"role", "assistant"},
              {"content", nullptr},
              {"tool_calls",
               {{{"id", "call_1"},
                 {"type", "function"},
                 {"function", {{"name", "f"}, {"arguments", "{\"x\": [1, 2]}"}}}}}}},
             {{"role", "tool"}, {"tool_call_id", "call_1"}, {"content", "42"}}}}}));
  const Json seen = Json::parse(model().rendered().messages_json);
  EXPECT_EQ(seen[0]["role"], "system");
  EXPECT_EQ(seen[1]["content"], "ab");
  EXPECT_EQ(seen[2]["tool_calls"][0]["function"]["arguments"], (Json{{"x", {1, 2}}}));
  EXPECT_EQ(seen[3]["tool_call_id"], "call_1");
}

TEST_F(ChatTest, ThinkingIsAVariableOfTheTemplate) {
  answer(ask({{"reasoning_effort", "none"}}));
  EXPECT_EQ(Json::parse(model().rendered().extra_json), (Json{{"enable_thinking", false}}));
  answer(ask({{"reasoning_effort", "high"}}));
  EXPECT_EQ(Json::parse(model().rendered().extra_json), (Json{{"enable_thinking", true}}));
  answer(ask({{"chat_template_kwargs", {{"enable_thinking", true}, {"x", 1}}}}));
  EXPECT_EQ(Json::parse(model().rendered().extra_json),
            (Json{{"enable_thinking", true}, {"x", 1}}));
  answer(ask());
  EXPECT_EQ(model().rendered().extra_json, "");
}

TEST_F(ChatTest, FormsAreCompiledByTheirText) {
  const Json schema{{"type", "object"}, {"properties", {{"a", {{"type", "integer"}}}}}};
  const Json body =
      ask({{"reasoning_effort", "none"},
           {"response_format",
            {{"type", "json_schema"},
             {"json_schema", {{"name", "s"}, {"strict", true}, {"schema", schema}}}}}});
  answer(body);
  ASSERT_EQ(model().rule_keys.size(), 1u);
  EXPECT_EQ(Json::parse(model().rule_keys[0]), schema);
  answer(ask({{"response_format", {{"type", "json_object"}}}}));
  EXPECT_EQ(model().rule_keys.size(), 2u);
  answer(ask({{"response_format", {{"type", "text"}}}}));
  EXPECT_EQ(model().rule_keys.size(), 2u);
}

TEST_F(ChatTest, WrongFieldsAreNamed) {
  expect_refused({{"model", "fake"}}, "messages");
  expect_refused(ask({{"messages", Json::array()}}), "messages");
  expect_refused(ask({{"messages", "hi"}}), "messages");
  expect_refused(ask({{"messages", {1}}}), "messages[0]");
  expect_refused(ask({{"messages", {{{"role", "pope"}, {"content", "x"}}}}}), "messages[0]");
  expect_refused(ask({{"messages", {{{"role", "user"}, {"content", 3}}}}}), "messages[0].content");
  expect_refused(ask({{"messages", {{{"role", "user"}, {"content", {{{"type", "image_url"}}}}}}}}),
                 "messages[0].content[0]");
  expect_refused(ask({{"temperature", "hot"}}), "temperature");
  expect_refused(ask({{"temperature", 3}}), "temperature");
  expect_refused(ask({{"top_p", -1}}), "top_p");
  expect_refused(ask({{"n", 0}}), "n");
  expect_refused(ask({{"n", 1.5}}), "n");
  expect_refused(ask({{"max_tokens", -1}}), "max_tokens");
  expect_refused(ask({{"stop", {1}}}), "stop[0]");
  expect_refused(ask({{"stop", ""}}), "stop");
  expect_refused(ask({{"stream", 1}}), "stream");
  expect_refused(ask({{"top_logprobs", 2}}), "top_logprobs");
  expect_refused(ask({{"logprobs", true}, {"top_logprobs", 21}}), "top_logprobs");
  expect_refused(ask({{"logit_bias", {{"x", 1}}}}), "logit_bias.x");
  expect_refused(ask({{"logit_bias", {{"99999999", 1}}}}), "logit_bias");
  expect_refused(ask({{"tools", {1}}}), "tools[0]");
  expect_refused(ask({{"tool_choice", "required"}}), "tool_choice");
  expect_refused(ask({{"response_format", {{"type", "xml"}}}}), "response_format");
  expect_refused(ask({{"reasoning_effort", "huge"}}), "reasoning_effort");
}

TEST_F(ChatTest, UnknownFieldsAreIgnoredAndNullIsAbsent) {
  const Json out = answer(ask({{"frobnicate", {1, 2}}, {"temperature", nullptr}, {"user", "me"}}));
  EXPECT_EQ(out["choices"][0]["finish_reason"], "stop");
}

TEST_F(ChatTest, APromptOverTheContextIsRefused) {
  model().context_ = 20;
  std::string words;
  for (int i = 0; i < 40; ++i) words += "word ";
  const HttpResponse response =
      post(kPath, ask({{"messages", {{{"role", "user"}, {"content", words}}}}}).dump());
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(Json::parse(response.body)["error"]["code"], "context_length_exceeded");
}

TEST_F(ChatTest, AnUnknownModelIs404) {
  const HttpResponse response = post(kPath, ask({{"model", "gpt-9"}}).dump());
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(Json::parse(response.body)["error"]["code"], "model_not_found");
}

TEST_F(ChatTest, AFullQueueIs429AndTakesBackWhatWasSubmitted) {
  model().waits = true;
  model().refuses_after = 1;
  const HttpResponse response = post(kPath, ask({{"n", 2}}).dump());
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(Json::parse(response.body)["error"]["type"], "rate_limit_error");
  ASSERT_EQ(response.headers.size(), 1u);
  EXPECT_EQ(response.headers[0].name, "Retry-After");
  EXPECT_EQ(model().cancelled(), std::vector<RequestId>{1});
}

TEST_F(ChatTest, AClientThatLeavesIsCancelled) {
  model().waits = true;
  const auto exchange = send({"POST", kPath, "", ask({{"n", 2}}).dump(), {}});
  EXPECT_FALSE(exchange->is_finished());
  exchange->leave();
  EXPECT_EQ(model().cancelled(), (std::vector<RequestId>{1, 2}));
}

TEST_F(ChatTest, AnErrorOnTheWayIsTold) {
  model().ending.reason = FinishReason::kError;
  model().ending.error = "disk gone";
  const HttpResponse whole = post(kPath, ask().dump());
  EXPECT_EQ(whole.status, 500);
  EXPECT_NE(whole.body.find("disk gone"), std::string::npos);
  model().ending.reason = FinishReason::kDeadline;
  EXPECT_EQ(post(kPath, ask().dump()).status, 504);
}

}  // namespace
}  // namespace lapidary::server
