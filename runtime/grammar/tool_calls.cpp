// One rule per family; what they share is the list of tools.
#include "runtime/grammar/tool_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "runtime/grammar/schema_network.h"
#include "runtime/text/reply_families.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kMaxNesting = 256;
constexpr size_t kMaxTools = 512, kMaxNameBytes = 128;

struct Tool {
  std::string name, parameters;  // a schema
};

bool is_name(const std::string& name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  std::string_view("_-.:/").find(c) != std::string_view::npos;
         });
}

// Arguments are an object, whether the schema says so or not.
std::string object_schema(const Json& parameters, bool is_strict, const std::string& name) {
  if (parameters.is_null()) return R"({"type":"object","additionalProperties":false})";
  if (!parameters.is_object())
    fail(ErrorCode::kBadData, "tools: the parameters of \"{}\" are no object", name);
  Json schema = parameters;
  if (!schema.contains("type")) schema["type"] = "object";
  if (schema["type"] != "object")
    fail(ErrorCode::kBadData, "tools: the parameters of \"{}\" are not of type object", name);
  const std::string text = schema.dump();
  try {
    grammar::NetworkBuilder scratch;
    const auto whole = grammar::SchemaNetworks(scratch).add(text, {}, {});
    scratch.mark_return(whole.end);
    scratch.finish(whole.start, std::bitset<256>().set());
  } catch (const Error& e) {
    if (is_strict) throw e.within("tools: \"" + name + "\"");
    return R"({"type":"object"})";
  }
  return text;
}

std::vector<Tool> read_tools(std::string_view json, const std::string& only) {
  guard_json(json, "tools", kMaxNesting);
  const Json list = Json::parse(json);
  if (!list.is_array()) fail(ErrorCode::kBadData, "tools: expected an array");
  if (list.size() > kMaxTools)
    fail(ErrorCode::kBadData, "tools: {} of them, the limit is {}", list.size(), kMaxTools);
  std::vector<Tool> tools;
  for (const Json& entry : list) {
    const Json& function =
        entry.is_object() && entry.contains("function") ? entry["function"] : entry;
    const Json name = function.is_object() ? function.value("name", Json()) : Json();
    if (!name.is_string() || !is_name(name.get<std::string>()))
      fail(ErrorCode::kBadData,
           "tools: a function's name is {}; expected up to {} letters, digits and _-.:/",
           excerpt(name.dump()), kMaxNameBytes);
    const auto text = name.get<std::string>();
    if (!only.empty() && text != only) continue;
    const bool is_strict = function.value("strict", Json()) == true;
    tools.push_back({text, object_schema(function.value("parameters", Json()), is_strict, text)});
  }
  if (tools.empty() && !only.empty())
    fail(ErrorCode::kUsage, "tool_choice: no tool is named \"{}\"", excerpt(only));
  if (tools.empty()) fail(ErrorCode::kUsage, "tools: none are declared");
  return tools;
}

using Tools = std::vector<Tool>;

Rule one_of(const Tools& tools, const auto& call) {
  std::vector<Rule> calls;
  for (const Tool& tool : tools) calls.push_back(call(tool));
  return Rule::choice(std::move(calls));
}

Rule free_with(std::string trigger, Rule call, bool parallel) {
  std::vector<Rule::Trigger> triggers{{std::move(trigger), std::move(call)}};
  return parallel ? Rule::triggered(std::move(triggers))
                  : Rule::triggered_once(std::move(triggers));
}

// One call, and with `parallel` more of them, `begin` before each but the first.
Rule at_least_one(const Rule& call, const Rule& begin, bool parallel) {
  if (!parallel) return call;
  return Rule::sequence({call, Rule::many(Rule::sequence({begin, call}))});
}

Rule gemma_rule(const GemmaMarkers& m, const Tools& tools, const ToolChoice& choice,
                bool is_thinking) {
  const SchemaOptions notation{JsonSpace::kNone, std::string(m.quote)};
  const Rule call = one_of(tools, [&](const Tool& tool) {
    return Rule::sequence({Rule::text("call:" + tool.name), Rule::schema(tool.parameters, notation),
                           Rule::text(std::string(m.call_end))});
  });
  const std::string call_begin(m.call_begin), thought_begin(m.thought_begin);
  if (choice.need == ToolChoice::Need::kMay) return free_with(call_begin, call, choice.parallel);

  const Rule begin = Rule::text(call_begin);
  const Rule calls = at_least_one(call, begin, choice.parallel);
  const Rule only_calls = Rule::sequence({begin, calls});
  if (thought_begin.empty()) return only_calls;
  // A call ends a thought too, as the parser has it.
  const Rule thought =
      Rule::free_until({{std::string(m.thought_end), only_calls}, {call_begin, calls}});
  if (is_thinking) return thought;
  return Rule::choice({only_calls, Rule::sequence({Rule::text(thought_begin), thought})});
}

Rule qwen3_rule(const Tools& tools, const ToolChoice& choice, bool is_thinking) {
  const Rule call = one_of(tools, [](const Tool& tool) {
    return Rule::sequence({Rule::text("\n{\"name\": \"" + tool.name + "\", \"arguments\": "),
                           Rule::schema(tool.parameters), Rule::text("}\n"),
                           Rule::text("</tool_call>")});
  });
  const Rule begin = Rule::text("<tool_call>");
  const bool must = choice.need == ToolChoice::Need::kMust;
  const Rule answer =
      must ? Rule::sequence(
                 {Rule::regex("\\n{0,2}"), begin,
                  at_least_one(call, Rule::sequence({Rule::text("\n"), begin}), choice.parallel)})
           : free_with("<tool_call>", call, choice.parallel);
  const Rule thought = Rule::sequence({Rule::free_until("</think>"), answer});
  if (is_thinking) return thought;
  return Rule::choice({answer, Rule::sequence({Rule::text("<think>"), thought})});
}

Rule llama3_rule(const Tools& tools, const ToolChoice& choice) {
  const Rule call = one_of(tools, [](const Tool& tool) {
    return Rule::sequence({Rule::text("{\"name\": \"" + tool.name + "\", \"parameters\": "),
                           Rule::schema(tool.parameters), Rule::text("}")});
  });
  if (choice.need == ToolChoice::Need::kMust) return call;
  // What begins with a brace or white space could be a call: text begins otherwise.
  const std::string tag = "<|python_tag|>";
  return Rule::choice(
      {call, Rule::sequence({Rule::text(tag), call}), Rule::text(""),
       Rule::sequence({Rule::regex("[^{\\s]"), free_with(tag, call, /*parallel=*/false)})});
}

}  // namespace

Rule tool_calls_rule(ReplyFormat format, std::string_view tools_json, const ToolChoice& choice,
                     std::string_view prompt_tail) {
  const Tools tools = read_tools(tools_json, choice.only);
  const bool is_thinking = opens_thought(format, prompt_tail);
  switch (format) {
    case ReplyFormat::kPlain:
      break;
    case ReplyFormat::kGemma4:
      return gemma_rule(kGemma4Markers, tools, choice, is_thinking);
    case ReplyFormat::kFunctionGemma:
      return gemma_rule(kFunctionGemmaMarkers, tools, choice, false);
    case ReplyFormat::kLlama3:
      return llama3_rule(tools, choice);
    case ReplyFormat::kQwen3:
      return qwen3_rule(tools, choice, is_thinking);
  }
  fail(ErrorCode::kUsage, "this model's chat template knows no tool calls");
}

}  // namespace lapidary
