// Replies drawn at random through the masks of tool rules: the parser finds calls of declared tools
// whose arguments an independent validator accepts.
#include "runtime/grammar/tool_calls.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include "formats/error.h"
#include "tests/runtime/grammar/grammar_fixture.h"
#include "tests/runtime/grammar/random_schema.h"

namespace lapidary {
namespace {

using F = ReplyFormat;
using Need = ToolChoice::Need;

// All bytes by fallback, the special tokens of all families, and pieces that cross borders.
const Tokenizer& tool_tokenizer() {
  static const Tokenizer tokenizer = [] {
    nlohmann::json vocab, added = nlohmann::json::array();
    int id = 0;
    for (const char* special : {"</s>", "<|tool_call>", "<tool_call|>", "<|\"|>", "<|channel>",
                                "<channel|>", "<|tool_response>", "<start_function_call>",
                                "<end_function_call>", "<escape>", "<|python_tag|>", "<|other|>"}) {
      added.push_back({{"id", id}, {"content", special}, {"special", true}});
      vocab[special] = id++;
    }
    for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = id++;
    for (const char* piece :
         {"<tool",    "_call", ">\n{",      "\"}",      "}}",   "}}\n</", "\":",    "\": \"",
          "{\"name",  "name",  "arguments", "call",     ":f{",  "},",     "<|",     "|>",
          "<|\"",     "\"|>",  "]}",        "é",        "漢",   "true",   ",a",     "<think>",
          "</think>", "\n\n",  "1.5",       "{\"a\": ", "<esc", "ape>",   "<|\"|>x"})
      vocab[piece] = id++;
    return Tokenizer::from_json(
        nlohmann::json{{"model",
                        {{"type", "BPE"},
                         {"byte_fallback", true},
                         {"vocab", vocab},
                         {"merges", nlohmann::json::array()}}},
                       {"added_tokens", added},
                       {"decoder",
                        {{"type", "Sequence"},
                         {"decoders", {{{"type", "ByteFallback"}}, {{"type", "Fuse"}}}}}}}
            .dump(),
        512);
  }();
  return tokenizer;
}
std::shared_ptr<const grammar::Vocabulary> tool_vocabulary() {
  static const auto vocabulary = std::make_shared<const grammar::Vocabulary>(tool_tokenizer());
  return vocabulary;
}
constexpr int32_t kResponse = 6;  // where Gemma models stop

std::shared_ptr<const Constraint> compiled_rule(const Rule& rule) {
  return Constraint::compile(rule, tool_vocabulary(), {kStop, kResponse});
}

// Feeds a text as the tokenizer cuts it, then a stop.
bool takes_text(const std::shared_ptr<const Constraint>& constraint, std::string_view text) {
  Matcher matcher(constraint);
  for (const int32_t id : tool_tokenizer().encode(text))
    if (!matcher.accept(id)) return false;
  return matcher.may_end();
}

const char* kWeather = R"([
  {"type": "function", "function": {"name": "get_weather", "strict": true, "parameters": {
    "type": "object", "required": ["city", "Days"], "additionalProperties": false,
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]},
                   "Days": {"type": "integer"},
                   "deep": {"type": "object", "properties": {"b": {"type": "array",
                             "items": {"type": "boolean"}}, "a": {"const": {"z": "x", "y": null}}}}}}}},
  {"type": "function", "function": {"name": "ping"}}])";

TEST(ToolCalls, AreWrittenInGemmasNotation) {
  const auto c = compiled_rule(tool_calls_rule(F::kGemma4, kWeather, {.need = Need::kMust}));
  EXPECT_TRUE(takes_text(
      c, R"(<|tool_call>call:get_weather{city:<|"|>Paris, "FR" <a|b<|"|>,Days:3,)"
         R"(deep:{a:{y:null,z:<|"|>x<|"|>},b:[true,false]},unit:<|"|>c<|"|>}<tool_call|>)"));
  EXPECT_TRUE(
      takes_text(c, "<|tool_call>call:ping{}<tool_call|><|tool_call>call:ping{}<tool_call|>"));
  EXPECT_TRUE(
      takes_text(c, "<|channel>thought\nhm {}<channel|><|tool_call>call:ping{}<tool_call|>"));
  EXPECT_TRUE(takes_text(c, "<|channel>thought\nhm <|tool_call>call:ping{}<tool_call|>"));
  for (const char* text :
       {"", "text", "<|channel>thought\n<channel|>", "<|tool_call>call:pong{}<tool_call|>",
        "<|tool_call>call:ping{}", "<|tool_call>call:ping{a:1}<tool_call|>",
        "<|tool_call>call:get_weather{Days:3}<tool_call|>",
        "<|tool_call>call:get_weather{unit:<|\"|>c<|\"|>,city:<|\"|>P<|\"|>,Days:3}<tool_call|>",
        "<|tool_call>call:get_weather{city:\"P\",Days:3}<tool_call|>"})
    EXPECT_FALSE(takes_text(c, text)) << text;
}

TEST(ToolCalls, SortAsTheTemplatesDo) {
  // By name without regard to case: city, Days, deep, unit.
  const auto c = compiled_rule(tool_calls_rule(F::kGemma4, kWeather, {.need = Need::kMust}));
  EXPECT_FALSE(
      takes_text(c, "<|tool_call>call:get_weather{Days:3,city:<|\"|>P<|\"|>}<tool_call|>"));
}

TEST(ToolCalls, MayMustOnlyAndOnce) {
  const auto rule = [](const ToolChoice& choice) {
    return compiled_rule(tool_calls_rule(F::kGemma4, kWeather, choice));
  };
  const char* ping = "<|tool_call>call:ping{}<tool_call|>";
  const std::string two = std::string(ping) + ping;
  EXPECT_TRUE(takes_text(rule({}), "No tools."));
  EXPECT_TRUE(takes_text(rule({}), "First: " + two + " Then"));
  EXPECT_FALSE(takes_text(rule({}), "First: <|tool_call>call:pong{}<tool_call|>"));
  EXPECT_TRUE(takes_text(rule({.parallel = false}), std::string("x") + ping));
  EXPECT_FALSE(takes_text(rule({.parallel = false}), two));
  EXPECT_FALSE(takes_text(rule({.need = Need::kMust, .parallel = false}), two));
  EXPECT_FALSE(takes_text(rule({.need = Need::kMust, .only = "get_weather"}), ping));
  EXPECT_TRUE(takes_text(rule({.need = Need::kMust, .only = "ping"}), ping));
}

TEST(ToolCalls, GoOnInAnOpenThought) {
  const char* tail = "<|channel>thought\n";
  const auto c = compiled_rule(tool_calls_rule(F::kGemma4, kWeather, {.need = Need::kMust}, tail));
  EXPECT_TRUE(takes_text(c, "hm<channel|><|tool_call>call:ping{}<tool_call|>"));
  const auto q = compiled_rule(tool_calls_rule(F::kQwen3, kWeather, {.need = Need::kMust},
                                               "<|im_start|>assistant\n<think>\n"));
  EXPECT_TRUE(takes_text(q,
                         "hm <tool_call></think>\n\n<tool_call>\n{\"name\": \"ping\", "
                         "\"arguments\": {}}\n</tool_call>"));
  EXPECT_FALSE(takes_text(q, "<tool_call>\n{\"name\": \"ping\", \"arguments\": {}}\n</tool_call>"));
}

TEST(ToolCalls, RefuseWhatIsNoDeclaration) {
  const auto message = [](std::string_view tools, const ToolChoice& choice = {}, F f = F::kGemma4) {
    try {
      tool_calls_rule(f, tools, choice);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_NE(message("{}"), "");
  EXPECT_NE(message("[]"), "");
  EXPECT_NE(message(R"([{"name": "a b"}])"), "");
  EXPECT_NE(message(R"([{"name": "a", "parameters": {"type": "string"}}])"), "");
  EXPECT_NE(message(R"([{"name": "a"}])", {.only = "b"}), "");
  EXPECT_NE(message(R"([{"name": "a"}])", {}, F::kPlain), "");
  EXPECT_EQ(message(R"([{"name": "a"}])"), "");
  // What masks cannot express is an Error for strict tools alone.
  EXPECT_NE(message(R"([{"name": "a", "strict": true, "parameters": {"not": {}}}])"), "");
  EXPECT_EQ(message(R"([{"name": "a", "parameters": {"not": {}}}])"), "");
}

bool is_valid(const nlohmann::json& schema_json, const nlohmann::json& instance) {
  valijson::Schema schema;
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(schema_json), schema);
  valijson::Validator validator(valijson::Validator::kStrongTypes);
  return validator.validate(schema, valijson::adapters::NlohmannJsonAdapter(instance), nullptr);
}

// A reply drawn through the masks, biased towards its end as time goes by; none when it grew long.
std::optional<std::string> drawn(const std::shared_ptr<const Constraint>& constraint,
                                 std::mt19937_64& random) {
  Matcher matcher(constraint);
  std::string text;
  std::vector<int32_t> possible, closing;
  for (int step = 0; step < 1500 && !matcher.is_finished(); ++step) {
    possible.clear();
    closing.clear();
    const auto mask = matcher.mask();
    for (int32_t id = 0; id < tool_vocabulary()->size(); ++id) {
      if (!(mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1)) continue;
      possible.push_back(id);
      const std::string_view bytes = tool_vocabulary()->bytes(id);
      if (bytes.empty() ? id < 10 && id != 4 : std::string_view("\"}]:").find(bytes[0]) + 1 > 0)
        closing.push_back(id);
    }
    if (possible.empty()) throw Error(ErrorCode::kInternal, "a dead end after " + text);
    const bool hurries = random() % 100 < (step < 60 ? 30u : 90u);
    const auto& from = hurries && !closing.empty() ? closing : possible;
    const int32_t id = from[random() % from.size()];
    if (!matcher.accept(id)) throw Error(ErrorCode::kInternal, "the mask lies after " + text);
    if (id == kStop || id == kResponse) {
      if (matcher.is_finished()) return text;
    }
    text += tool_vocabulary()->is_special(id) ? tool_tokenizer().piece(id)
                                              : tool_vocabulary()->bytes(id);
  }
  return matcher.is_finished() ? std::optional(text) : std::nullopt;
}

TEST(ToolCalls, GiveValidCallsByConstruction) {
  std::mt19937_64 random(1);
  size_t n_replies = 0, n_calls = 0;
  for (uint64_t seed = 0; seed < 600; ++seed) {
    nlohmann::json parameters = nlohmann::json::parse(random_schema(seed));
    if (!parameters.is_object() || parameters.value("type", nlohmann::json()) != "object") continue;
    const nlohmann::json tools{{{"name", "f"}, {"strict", true}, {"parameters", parameters}},
                               {{"name", "ping"}}};
    for (const F format : {F::kGemma4, F::kFunctionGemma, F::kLlama3, F::kQwen3}) {
      for (const Need need : {Need::kMust, Need::kMay}) {
        std::shared_ptr<const Constraint> constraint;
        try {
          constraint = compiled_rule(tool_calls_rule(format, tools.dump(), {.need = need}));
        } catch (const Error& e) {
          ASSERT_NE(std::string(e.what()).find("no text satisfies"), std::string::npos) << e.what();
          continue;
        }
        const std::optional<std::string> text = drawn(constraint, random);
        if (!text) continue;
        ++n_replies;
        const Reply reply = parse_reply(format, *text);
        ASSERT_TRUE(need == Need::kMay || !reply.calls.empty()) << *text;
        ASSERT_TRUE(need == Need::kMay || reply.content.empty()) << *text;
        for (const Reply::Call& call : reply.calls) {
          ASSERT_TRUE(call.is_complete) << *text;
          ASSERT_TRUE(call.name == "f" || call.name == "ping") << *text;
          const auto arguments = nlohmann::json::parse(call.arguments_json, nullptr, false);
          ASSERT_TRUE(arguments.is_object()) << call.arguments_json;
          if (call.name == "f")
            ASSERT_TRUE(is_valid(parameters, arguments)) << parameters << "\n" << *text;
          else
            ASSERT_EQ(call.arguments_json, "{}");
          ++n_calls;
        }
      }
    }
  }
  EXPECT_GT(n_replies, 300u);
  EXPECT_GT(n_calls, 300u);
}

}  // namespace
}  // namespace lapidary
