// Tool-call items: one to three functions are declared, the request fits exactly one of them.
#include <string>
#include <vector>

#include "formats/error.h"
#include "runtime/verify/builtin_tasks.h"
#include "runtime/verify/builtin_words.h"

namespace lapidary {
namespace {

struct Parameter {
  const char *name, *description, *type;  // type in JSON schema's words
};
struct Function {
  const char *name, *description;
  std::vector<Parameter> parameters;  // sorted by name, as templates write them
};

// A request and the arguments it asks for, in the order of the function's parameters. Values of
// type string are stored bare.
struct Request {
  std::string user;
  std::vector<std::string> values;
};

const std::vector<Function>& functions() {
  static const std::vector<Function> all = {
      {"set_timer",
       "Start a timer",
       {{"label", "Name of the timer", "string"}, {"minutes", "Length in minutes", "integer"}}},
      {"create_event",
       "Add a calendar event",
       {{"day", "Day of the month", "integer"}, {"title", "Event title", "string"}}},
      {"send_message",
       "Send a text message",
       {{"text", "Message body", "string"}, {"to", "Recipient", "string"}}},
      {"find_flight",
       "Search flights",
       {{"destination", "Arrival city", "string"}, {"origin", "Departure city", "string"}}},
      {"turn_light",
       "Switch a light",
       {{"on", "On or off", "boolean"}, {"room", "Room", "string"}}},
  };
  return all;
}

Request make_request(SplitMix64& random, const Function& function) {
  const std::string name = function.name;
  if (name == "set_timer") {
    const std::string label(pick(random, kNouns)), minutes = std::to_string(random.between(2, 90));
    return {fmt::format("Start a timer called {} for {} minutes.", label, minutes),
            {label, minutes}};
  }
  if (name == "create_event") {
    const std::string title = fmt::format("{} {}", pick(random, kNouns), pick(random, kNouns));
    const std::string day = std::to_string(random.between(1, 28));
    return {fmt::format("Put {} in my calendar on day {}.", title, day), {day, title}};
  }
  if (name == "send_message") {
    const std::string text =
        fmt::format("{} {} {}", pick(random, kNouns), pick(random, kNouns), pick(random, kNouns));
    const std::string to(pick(random, kFirstNames));
    return {fmt::format("Send {} the message: {}", to, text), {text, to}};
  }
  if (name == "find_flight") {
    const std::string_view origin = pick(random, kCities);
    std::string_view destination = origin;
    while (destination == origin) destination = pick(random, kCities);
    return {fmt::format("Find a flight from {} to {}.", origin, destination),
            {std::string(destination), std::string(origin)}};
  }
  constexpr std::array<std::string_view, 5> kRooms = {"office", "kitchen", "bedroom", "garage",
                                                      "hall"};
  const bool on = random.below(2) == 1;
  const std::string room(pick(random, kRooms));
  return {fmt::format("Turn the {} light {}.", room, on ? "on" : "off"),
          {on ? "true" : "false", room}};
}

std::string quoted(const std::string& text, ToolGrammar grammar) {
  const char* quote = grammar == ToolGrammar::kGemma ? "<|\"|>" : "\"";
  return quote + text + quote;
}

std::string upper(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return text;
}

// Gemma 4's declaration, as its chat template renders OpenAI's JSON form.
std::string gemma_declaration(const Function& function) {
  const auto q = [](const std::string& text) { return quoted(text, ToolGrammar::kGemma); };
  std::string properties, required;
  for (const Parameter& p : function.parameters) {
    properties += fmt::format("{}{}:{{description:{},type:{}}}", properties.empty() ? "" : ",",
                              p.name, q(p.description), q(upper(p.type)));
    required += (required.empty() ? "" : ",") + q(p.name);
  }
  return fmt::format(
      "<|tool>declaration:{}{{description:{},parameters:{{properties:{{{}}},required:[{}],type:{}}}"
      "}}<tool|>",
      function.name, q(function.description), properties, required, q("OBJECT"));
}

std::string json_declaration(const Function& function) {
  std::string parameters;
  for (const Parameter& p : function.parameters)
    parameters += fmt::format("{}{}: {}", parameters.empty() ? "" : ", ", p.name, p.type);
  return fmt::format("\n{}({}): {}", function.name, parameters, function.description);
}

std::string expected_call(const Function& function, const Request& request, ToolGrammar grammar) {
  const bool gemma = grammar == ToolGrammar::kGemma;
  std::string arguments;
  for (size_t i = 0; i < function.parameters.size(); ++i) {
    const Parameter& p = function.parameters[i];
    const std::string value =
        p.type == std::string("string") ? quoted(request.values[i], grammar) : request.values[i];
    if (!arguments.empty()) arguments += gemma ? "," : ", ";
    arguments +=
        gemma ? fmt::format("{}:{}", p.name, value) : fmt::format("\"{}\": {}", p.name, value);
  }
  return gemma
             ? fmt::format("<|tool_call>call:{}{{{}}}<tool_call|>", function.name, arguments)
             : fmt::format("{{\"name\": \"{}\", \"arguments\": {{{}}}}}", function.name, arguments);
}

}  // namespace

TaskItem make_tool_item(SplitMix64& random, ToolGrammar grammar) {
  std::vector<Function> declared = functions();
  for (size_t i = declared.size(); i > 1; --i)
    std::swap(declared[i - 1], declared[random.below(i)]);
  declared.resize(static_cast<size_t>(random.between(1, 3)));
  const Function& wanted = declared[random.below(declared.size())];

  TaskItem item;
  item.task = "tool";
  item.system = grammar == ToolGrammar::kGemma
                    ? "You can call functions."
                    : "You can call one of these functions. Answer only with JSON of the form "
                      "{\"name\": NAME, "
                      "\"arguments\": {...}}, arguments in the order of the declaration.";
  for (const Function& function : declared)
    item.system +=
        grammar == ToolGrammar::kGemma ? gemma_declaration(function) : json_declaration(function);
  const Request request = make_request(random, wanted);
  item.user = request.user;
  item.answer = expected_call(wanted, request, grammar);
  return item;
}

}  // namespace lapidary
