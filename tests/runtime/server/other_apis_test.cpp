// Completions, responses, messages and embeddings: what each says of one and the same answer.
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/runtime/server/api_fixture.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::json;

const std::string kThoughtAndCall =
    "<|channel>thought\nLook.\n<channel|>Wait.<|tool_call>call:f{city:<|\"|>Oslo<|\"|>}<tool_call|"
    ">";

class OtherApis : public ApiTest {
 protected:
  Json answer(const std::string& path, const Json& body) {
    const HttpResponse response = post(path, body.dump());
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body);
  }
  std::vector<Json> stream(const std::string& path, Json body) {
    body["stream"] = true;
    std::vector<Json> out;
    for (const Event& event : events_of(post(path, body.dump()).body)) {
      if (event.data == "[DONE]") continue;
      out.push_back(Json::parse(event.data));
      if (!event.name.empty()) {
        EXPECT_EQ(event.name, out.back()["type"]);
      }
    }
    return out;
  }
  std::string refused_param(const std::string& path, const Json& body) {
    const HttpResponse response = post(path, body.dump());
    EXPECT_EQ(response.status, 400) << body;
    const Json param = Json::parse(response.body)["error"]["param"];
    return param.is_string() ? param.get<std::string>() : "";
  }
  const Json chat_tools_{
      {{"type", "function"},
       {"name", "f"},
       {"parameters",
        {{"type", "object"}, {"properties", Json::object()}, {"required", Json::array()}}}}};
};

TEST_F(OtherApis, CompletionsTakeTextsAndTokens) {
  const Json out =
      answer("/v1/completions", {{"prompt", {"One", "Two"}}, {"n", 2}, {"max_tokens", 50}});
  EXPECT_EQ(out["object"], "text_completion");
  ASSERT_EQ(out["choices"].size(), 4u);
  EXPECT_EQ(out["choices"][3]["index"], 3);
  EXPECT_EQ(out["choices"][3]["text"], "Hello there, friend.");
  const std::vector<Request> requests = model().requests();
  EXPECT_EQ(requests[0].prompt, requests[1].prompt);
  EXPECT_NE(requests[1].prompt, requests[2].prompt);
  EXPECT_EQ(requests[0].prompt.front(), 2) << "BOS first";
  answer("/v1/completions", {{"prompt", {5, 6, 7}}});
  EXPECT_EQ(model().requests().back().prompt, (std::vector<int32_t>{5, 6, 7})) << "as they are";
  EXPECT_EQ(model().requests().back().max_tokens, 16);
}

TEST_F(OtherApis, CompletionsTellLogProbabilitiesAndEcho) {
  const Json out =
      answer("/v1/completions", {{"prompt", "One"}, {"logprobs", 2}, {"max_tokens", 50}});
  const Json logs = out["choices"][0]["logprobs"];
  const size_t n = logs["tokens"].size();
  EXPECT_GT(n, 2u);
  EXPECT_EQ(logs["token_logprobs"].size(), n);
  EXPECT_EQ(logs["top_logprobs"].size(), n);
  EXPECT_EQ(logs["text_offset"][1], logs["tokens"][0].get<std::string>().size());
  std::string text;
  for (const Json& chunk :
       stream("/v1/completions", {{"prompt", "One"}, {"echo", true}, {"max_tokens", 50}}))
    text += chunk["choices"][0]["text"];
  EXPECT_EQ(text, "OneHello there, friend.");
}

TEST_F(OtherApis, CompletionsRefuse) {
  const std::string path = "/v1/completions";
  EXPECT_EQ(refused_param(path, Json::object()), "prompt");
  EXPECT_EQ(refused_param(path, {{"prompt", Json::array()}}), "prompt");
  EXPECT_EQ(refused_param(path, {{"prompt", {1, "a"}}}), "prompt[1]");
  EXPECT_EQ(refused_param(path, {{"prompt", {99999}}}), "prompt");
  EXPECT_EQ(refused_param(path, {{"prompt", {-1}}}), "prompt[0]");
  EXPECT_EQ(refused_param(path, {{"prompt", "a"}, {"suffix", "b"}}), "suffix");
  EXPECT_EQ(refused_param(path, {{"prompt", "a"}, {"best_of", 3}}), "best_of");
}

TEST_F(OtherApis, ResponsesAreItems) {
  model().says = [](size_t) { return kThoughtAndCall; };
  const Json out = answer("/v1/responses",
                          {{"input", "Hi"}, {"instructions", "Be brief."}, {"tools", chat_tools_}});
  EXPECT_EQ(out["object"], "response");
  EXPECT_EQ(out["status"], "completed");
  ASSERT_EQ(out["output"].size(), 3u);
  EXPECT_EQ(out["output"][0]["type"], "reasoning");
  EXPECT_EQ(out["output"][0]["content"][0]["text"], "Look.");
  EXPECT_EQ(out["output"][1]["content"][0]["text"], "Wait.");
  EXPECT_EQ(out["output"][2]["name"], "f");
  EXPECT_EQ(Json::parse(out["output"][2]["arguments"].get<std::string>()),
            (Json{{"city", "Oslo"}}));
  EXPECT_EQ(out["instructions"], "Be brief.");
  EXPECT_GT(out["usage"]["output_tokens_details"]["reasoning_tokens"], 0);
  const Json seen = Json::parse(model().rendered().messages_json);
  EXPECT_EQ(seen[0], (Json{{"role", "system"}, {"content", "Be brief."}}));
}

TEST_F(OtherApis, ResponsesStreamWhatTheyAreInTheEnd) {
  model().says = [](size_t) { return kThoughtAndCall; };
  const std::vector<Json> events =
      stream("/v1/responses", {{"input", "Hi"}, {"tools", chat_tools_}});
  std::string thought, text, arguments;
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i]["sequence_number"], i);
    const std::string type = events[i]["type"];
    if (type == "response.reasoning_text.delta") thought += events[i]["delta"];
    if (type == "response.output_text.delta") text += events[i]["delta"];
    if (type == "response.function_call_arguments.delta") arguments += events[i]["delta"];
  }
  EXPECT_EQ(events.front()["type"], "response.created");
  EXPECT_EQ(events.back()["type"], "response.completed");
  const Json output = events.back()["response"]["output"];
  ASSERT_EQ(output.size(), 3u);
  EXPECT_EQ(output[0]["content"][0]["text"], thought);
  EXPECT_EQ(output[1]["content"][0]["text"], text);
  EXPECT_EQ(output[2]["arguments"], arguments);
  EXPECT_EQ(thought + text, "Look.Wait.");
}

TEST_F(OtherApis, ResponsesTakeAConversationBack) {
  answer(
      "/v1/responses",
      {{"input",
        {{{"role", "user"}, {"content", {{{"type", "input_text"}, {"text", "Weather?"}}}}},
         {{"type", "reasoning"},
          {"summary", Json::array()},
          {"content", {{{"type", "reasoning_text"}, {"text", "hm"}}}}},
         {{"type", "function_call"}, {"call_id", "c1"}, {"name", "f"}, {"arguments", "{\"a\":1}"}},
         {{"type", "function_call"}, {"call_id", "c2"}, {"name", "f"}, {"arguments", "{}"}},
         {{"type", "function_call_output"}, {"call_id", "c1"}, {"output", "sunny"}}}}});
  const Json seen = Json::parse(model().rendered().messages_json);
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[1]["reasoning_content"], "hm");
  EXPECT_EQ(seen[1]["tool_calls"].size(), 2u);
  EXPECT_EQ(seen[1]["tool_calls"][0]["function"]["arguments"], (Json{{"a", 1}}));
  EXPECT_EQ(seen[2], (Json{{"role", "tool"}, {"tool_call_id", "c1"}, {"content", "sunny"}}));
  EXPECT_EQ(refused_param("/v1/responses", {{"input", "x"}, {"previous_response_id", "resp_1"}}),
            "previous_response_id");
  EXPECT_EQ(refused_param("/v1/responses", Json::object()), "input");
  EXPECT_EQ(refused_param("/v1/responses", {{"input", {{{"type", "computer_call"}}}}}), "input[0]");
}

TEST_F(OtherApis, ACutResponseIsIncomplete) {
  const Json out = answer("/v1/responses", {{"input", "Hi"}, {"max_output_tokens", 2}});
  EXPECT_EQ(out["status"], "incomplete");
  EXPECT_EQ(out["incomplete_details"]["reason"], "max_output_tokens");
}

TEST_F(OtherApis, MessagesAreBlocks) {
  model().says = [](size_t) { return kThoughtAndCall; };
  const Json body{
      {"model", "fake"},
      {"max_tokens", 100},
      {"system", {{{"type", "text"}, {"text", "Be brief."}}}},
      {"messages", {{{"role", "user"}, {"content", "Hi"}}}},
      {"tools",
       {{{"name", "f"},
         {"input_schema",
          {{"type", "object"}, {"properties", Json::object()}, {"required", Json::array()}}}}}}};
  model().ending.cached_tokens = 2;
  const Json out = answer("/v1/messages", body);
  EXPECT_EQ(out["type"], "message");
  EXPECT_EQ(out["stop_reason"], "tool_use");
  ASSERT_EQ(out["content"].size(), 3u);
  EXPECT_EQ(out["content"][0]["thinking"], "Look.");
  EXPECT_EQ(out["content"][1]["text"], "Wait.");
  EXPECT_EQ(out["content"][2]["input"], (Json{{"city", "Oslo"}}));
  EXPECT_EQ(out["usage"]["cache_read_input_tokens"], 2);
  EXPECT_EQ(out["usage"]["input_tokens"], model().requests()[0].prompt.size() - 2);

  const std::vector<Json> events = stream("/v1/messages", body);
  EXPECT_EQ(events.front()["type"], "message_start");
  EXPECT_EQ(events.back()["type"], "message_stop");
  EXPECT_EQ(events[events.size() - 2]["delta"]["stop_reason"], "tool_use");
  std::vector<std::string> blocks;
  int open = -1;
  for (const Json& event : events) {
    if (event["type"] == "content_block_start") {
      EXPECT_EQ(open, -1);
      open = event["index"];
      EXPECT_EQ(static_cast<size_t>(open), blocks.size());
      blocks.emplace_back();
    } else if (event["type"] == "content_block_delta") {
      EXPECT_EQ(event["index"], open);
      for (const char* name : {"thinking", "text", "partial_json"})
        blocks.back() += event["delta"].value(name, "");
    } else if (event["type"] == "content_block_stop") {
      EXPECT_EQ(event["index"], open);
      open = -1;
    }
  }
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks[0], "Look.");
  EXPECT_EQ(blocks[1], "Wait.");
  EXPECT_EQ(Json::parse(blocks[2]), (Json{{"city", "Oslo"}}));
}

TEST_F(OtherApis, MessagesTakeAConversationBack) {
  answer("/v1/messages",
         {{"max_tokens", 9},
          {"messages",
           {{{"role", "user"}, {"content", "Weather?"}},
            {{"role", "assistant"},
             {"content",
              {{{"type", "thinking"}, {"thinking", "hm"}, {"signature", ""}},
               {{"type", "tool_use"}, {"id", "t1"}, {"name", "f"}, {"input", {{"a", 1}}}}}}},
            {{"role", "user"},
             {"content",
              {{{"type", "tool_result"}, {"tool_use_id", "t1"}, {"content", "sunny"}},
               {{"type", "text"}, {"text", "So?"}}}}}}}});
  const Json seen = Json::parse(model().rendered().messages_json);
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_EQ(seen[1]["reasoning_content"], "hm");
  EXPECT_EQ(seen[1]["tool_calls"][0]["function"]["arguments"], (Json{{"a", 1}}));
  EXPECT_EQ(seen[2]["role"], "tool");
  EXPECT_EQ(seen[3]["content"], "So?");
}

TEST_F(OtherApis, MessagesStopAndRefuseInTheirForm) {
  const Json messages{{{"role", "user"}, {"content", "Hi"}}};
  const Json out = answer(
      "/v1/messages", {{"max_tokens", 50}, {"messages", messages}, {"stop_sequences", {"there"}}});
  EXPECT_EQ(out["stop_reason"], "stop_sequence");
  EXPECT_EQ(out["stop_sequence"], "there");
  EXPECT_EQ(out["content"][0]["text"], "Hello ");
  const HttpResponse refused = post("/v1/messages", Json{{"messages", messages}}.dump());
  EXPECT_EQ(refused.status, 400);
  const Json error = Json::parse(refused.body);
  EXPECT_EQ(error["type"], "error");
  EXPECT_EQ(error["error"]["type"], "invalid_request_error");
  const HttpResponse unknown =
      post("/v1/messages", Json{{"model", "x"}, {"max_tokens", 1}, {"messages", messages}}.dump());
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(Json::parse(unknown.body)["error"]["type"], "not_found_error");
  const Json count = answer("/v1/messages/count_tokens", {{"messages", messages}});
  EXPECT_EQ(count["input_tokens"], model().requests()[0].prompt.size());
}

TEST_F(OtherApis, EmbeddingsHaveLengthOneAndTheirOrder) {
  const Json out = answer("/v1/embeddings", {{"input", std::vector<std::string>(20, "word")}});
  ASSERT_EQ(out["data"].size(), 20u);
  EXPECT_EQ(out["data"][19]["index"], 19);
  EXPECT_EQ(out["data"][0]["embedding"], (Json{0.6f, 0.f, -0.8f, 0.f}));
  EXPECT_EQ(out["usage"]["prompt_tokens"], 20 * model().requests()[0].prompt.size());
  EXPECT_EQ(model().requests()[0].max_tokens, 0);
  const Json coded = answer("/v1/embeddings", {{"input", {3, 4}}, {"encoding_format", "base64"}});
  // 0.6f, 0, -0.8f, 0 in little-endian binary32.
  EXPECT_EQ(coded["data"][0]["embedding"], "mpkZPwAAAADNzEy/AAAAAA==");
  EXPECT_EQ(refused_param("/v1/embeddings", Json::object()), "input");
  EXPECT_EQ(refused_param("/v1/embeddings", {{"input", "a"}, {"dimensions", 2}}), "dimensions");
  EXPECT_EQ(refused_param("/v1/embeddings", {{"input", "a"}, {"encoding_format", "x"}}),
            "encoding_format");
}

TEST_F(OtherApis, AFullQueueIs429ForEmbeddingsToo) {
  model().refuses_after = 0;
  EXPECT_EQ(post("/v1/embeddings", R"({"input": "a"})").status, 429);
}

}  // namespace
}  // namespace lapidary::server
