// Random schemas, random answers drawn through the masks: every one parses, and an independent
// validator accepts it.
#include <gtest/gtest.h>

#include <cctype>
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

#if defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kSchemas = 300;
#else
constexpr uint64_t kSchemas = 10'000;
#endif
constexpr int kAnswersEach = 2;

bool is_inside_string(std::string_view text) {
  bool inside = false;
  for (size_t i = 0; i < text.size(); ++i)
    if (inside && text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      inside = !inside;
  return inside;
}

// Draws tokens until the end. A coin alone would write strings and lists for ever, so after a while
// tokens that close something are preferred, and in strings those that patterns ask for.
std::string random_answer(const std::shared_ptr<const Constraint>& constraint, uint64_t seed) {
  std::mt19937_64 random(seed);
  Matcher matcher(constraint);
  std::string text;
  std::vector<int32_t> possible, closing, plain;
  for (int step = 0; step < 5000 && !matcher.is_finished(); ++step) {
    possible.clear();
    closing.clear();
    plain.clear();
    const bool inside = is_inside_string(text);
    const auto mask = matcher.mask();
    for (int32_t id = 0; id < small_vocabulary()->size(); ++id) {
      if (!(mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1)) continue;
      possible.push_back(id);
      const std::string_view bytes = small_vocabulary()->bytes(id);
      if (id == kStop || (inside ? bytes[0] == '"' : bytes[0] == '}' || bytes[0] == ']'))
        closing.push_back(id);
      if (inside && (std::isalnum(static_cast<uint8_t>(bytes[0])) || bytes[0] == '-'))
        plain.push_back(id);
    }
    if (possible.empty()) throw Error(ErrorCode::kInternal, "a dead end after " + text);
    const bool hurries = random() % 100 < (step < 40 ? 15u : 95u);
    const auto& from = hurries && !closing.empty() ? closing
                       : hurries && !plain.empty() ? plain
                                                   : possible;
    const int32_t id = from[random() % from.size()];
    if (!matcher.accept(id)) throw Error(ErrorCode::kInternal, "the mask lies after " + text);
    text += small_vocabulary()->bytes(id);
  }
  if (!matcher.is_finished()) throw Error(ErrorCode::kInternal, "no end: " + text.substr(0, 200));
  return text;
}

std::string violations(const nlohmann::json& schema_json, const nlohmann::json& instance) {
  valijson::Schema schema;
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(schema_json), schema);
  // Strong types: "1" is no number.
  valijson::Validator validator(valijson::Validator::kStrongTypes);
  valijson::ValidationResults results;
  if (validator.validate(schema, valijson::adapters::NlohmannJsonAdapter(instance), &results))
    return "";
  std::string all = "refused:";
  for (valijson::ValidationResults::Error error; results.popError(error);)
    all += " " + error.description;
  return all;
}

TEST(RandomSchemas, GiveAnswersThatAValidatorAccepts) {
  uint64_t n_empty = 0, n_answers = 0;
  size_t n_bytes = 0;
  for (uint64_t seed = 0; seed < kSchemas; ++seed) {
    const std::string text = random_schema(seed);
    std::shared_ptr<const Constraint> constraint;
    try {
      constraint = compiled_schema(text, static_cast<JsonSpace>(seed % 3));
    } catch (const Error& e) {
      ASSERT_NE(std::string(e.what()).find("no text satisfies"), std::string::npos)
          << e.what() << "\n"
          << text;
      ++n_empty;
      continue;
    }
    const nlohmann::json schema = nlohmann::json::parse(text);
    for (int i = 0; i < kAnswersEach; ++i) {
      std::string answer;
      ASSERT_NO_THROW(answer = random_answer(constraint, seed * 7 + static_cast<uint64_t>(i)))
          << "seed " << seed << "\n"
          << text;
      nlohmann::json instance;
      ASSERT_NO_THROW(instance = nlohmann::json::parse(answer)) << text << "\n" << answer;
      ASSERT_EQ(violations(schema, instance), "") << "seed " << seed << "\n"
                                                  << text << "\n"
                                                  << answer;
      ++n_answers;
      n_bytes += answer.size();
    }
  }
  // The generator must not make it easy for itself.
  EXPECT_LT(n_empty, kSchemas / 20);
  EXPECT_GT(n_bytes / n_answers, 15u);
}

}  // namespace
}  // namespace lapidary
