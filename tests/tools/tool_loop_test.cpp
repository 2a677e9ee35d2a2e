// Plan, act, observe through the binary: commands run only when the user allows them by name, get
// the arguments as JSON, and are limited in time and output.
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include "formats/file.h"
#include "tests/test_data.h"
#include "tests/tools/command_runner.h"
#include "tests/tools/converted_model.h"

namespace lapidary {
namespace {

using nlohmann::json;

class ToolLoop : public ConvertedModel {
 protected:
  // A tools file with one tool that the model knows how to call.
  static std::string tools_file(const json& more) {
    json tool = {{"type", "function"},
                 {"function",
                  {{"name", "get_weather"},
                   {"description", "Get the weather of a city"},
                   {"parameters",
                    {{"type", "object"},
                     {"properties",
                      {{"city", {{"type", "string"}, {"description", "City"}}},
                       {"unit", {{"type", "string"}, {"description", "Unit"}}}}},
                     {"required", {"city", "unit"}}}}}}};
    tool.update(more);
    const std::string path = folder_->file("tools.json");
    write_text_atomically(path, json::array({tool}).dump());
    return path;
  }

  static Outcome ask(const json& more, std::vector<std::string> options) {
    options.insert(
        options.begin(),
        {"run", model_, "--greedy", "--system", "You can call functions.", "--tools",
         tools_file(more), "-p", "What is the weather in Oslo in celsius?", "--max-tokens", "60"});
    return lapidary_command(options);
  }
  static json first_action(const json& more) {
    const Outcome o = ask(more, {"--allow-tool", "get_weather", "--tool-rounds", "1", "--json"});
    EXPECT_EQ(o.status, 0) << o.err;
    const json reply = json::parse(o.out, nullptr, false);
    return reply.contains("actions") ? reply["actions"][0] : json();
  }
};

TEST_F(ToolLoop, RunsWhatTheUserAllows) {
  const std::string witness = folder_->file("witness");
  // tee writes its input, the arguments, to the file and to the result.
  const json action = first_action({{"command", {"tee", witness}}});
  EXPECT_EQ(action["name"], "get_weather");
  EXPECT_EQ(json::parse(action["arguments"].get<std::string>()),
            (json{{"city", "Oslo"}, {"unit", "celsius"}}));
  EXPECT_EQ(read_text(witness), action["arguments"].get<std::string>());
  EXPECT_EQ(action["result"], action["arguments"]);
}

TEST_F(ToolLoop, RunsNothingElse) {
  const std::string witness = folder_->file("never");
  const json command{{"command", {"touch", witness}}};
  const Outcome o = ask(command, {"--quiet"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_TRUE(o.out.starts_with("<|tool_call>call:get_weather{city:")) << o.out;
  EXPECT_FALSE(path_exists(witness));
  expect_error(ask(command, {"--allow-tool", "get_time"}), 64, "get_time");
  expect_error(ask(json::object(), {"--allow-tool", "get_weather"}), 64, "no command");
  expect_error(ask({{"command", "rm -rf"}}, {"--allow-tool", "get_weather"}), 65, "an array");
  expect_error(ask({{"command", json::array()}}, {"--allow-tool", "get_weather"}), 65, "an array");
  expect_error(ask({{"command", {"true"}}, {"seconds", -1}}, {"--allow-tool", "get_weather"}), 65,
               "seconds");
  expect_error(ask(command, {"--allow-tool", "get_weather", "--regex", "x"}), 64, "--allow-tool");
  EXPECT_FALSE(path_exists(witness));
}

TEST_F(ToolLoop, TellsTheModelOfFailures) {
  const auto result = [](const json& more) {
    const json action = first_action(more);
    return action.is_object() ? action["result"].get<std::string>() : "no action";
  };
  EXPECT_TRUE(result({{"command", {"false"}}}).starts_with("error: exit status 1"));
  EXPECT_TRUE(result({{"command", {"./is-not-there"}}}).starts_with("error: ./is-not-there"));
  EXPECT_EQ(result({{"command", {"yes"}}, {"output_bytes", 1000}}),
            "error: the result was longer than 1000 bytes");
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(result({{"command", {"sleep", "60"}}, {"seconds", 0.2}}),
            "error: no result within 0.2 s");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST_F(ToolLoop, EndsAfterItsRounds) {
  const Outcome o = ask({{"command", {"echo", "4 degrees"}}},
                        {"--allow-tool", "get_weather", "--tool-rounds", "2", "--json"});
  EXPECT_EQ(o.status, 0) << o.err;
  const json reply = json::parse(o.out);
  EXPECT_GE(reply["actions"].size(), 1u);
  EXPECT_LE(reply["actions"].size(), 2u);
  EXPECT_EQ(reply["actions"][0]["result"], "4 degrees");
  // The observation is part of what the model answers to.
  EXPECT_GT(reply["prompt_tokens"].size(), 60u);
}

}  // namespace
}  // namespace lapidary
