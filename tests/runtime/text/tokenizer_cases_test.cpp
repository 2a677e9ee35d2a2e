// Small tokenizers with rare features against `tokenizers`: tests/data/text/tokenizer_cases.json,
// made by make_tokenizer_cases.py. LAPIDARY_TOKENIZER_CASES names another such file.
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "formats/file.h"
#include "runtime/text/tokenizer.h"
#include "tests/runtime/text/tokenizer_fixture.h"

namespace lapidary {
namespace {

using nlohmann::json;

TEST(TokenizerCases, AgreeWithTokenizers) {
  const char* other = std::getenv("LAPIDARY_TOKENIZER_CASES");
  const json golden =
      json::parse(read_text(other ? other : data_path("text/tokenizer_cases.json")));
  ASSERT_GE(golden["tokenizers"].size(), 24u);
  for (const json& one : golden["tokenizers"]) {
    const std::string name = one["name"];
    // All vocabularies of the file fit.
    const Tokenizer t = Tokenizer::from_json(one["tokenizer"].dump(), 512);
    for (const json& c : one["cases"]) {
      const std::string text = c["text"];
      const Ids ids = c["ids"];
      EXPECT_EQ(t.encode(text, {.add_special = true}), ids) << name << ": '" << text << "'";
      EXPECT_EQ(t.encode(text, {.parse_special = false}), c["without_special"].get<Ids>())
          << name << ": '" << text << "'";
      EXPECT_EQ(t.decode(ids), c["decoded"].get<std::string>()) << name << ": '" << text << "'";
      EXPECT_EQ(t.decode(ids, true), c["skipped"].get<std::string>()) << name;
    }
  }
}

}  // namespace
}  // namespace lapidary
