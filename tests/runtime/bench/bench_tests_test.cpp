// Names of speed tests: what is understood, and that everything else is refused by name.
#include "runtime/bench/bench_tests.h"

#include <gtest/gtest.h>

#include "formats/error.h"

namespace lapidary {
namespace {

using Kind = BenchTest::Kind;

TEST(BenchTests, ListsAreReadInOrder) {
  const std::vector<BenchTest> expected{{Kind::kPrompt, 512, 0},
                                        {Kind::kGenerate, 32, 0},
                                        {Kind::kGenerate, 1, 4096},
                                        {Kind::kPrompt, 64, 131072}};
  EXPECT_EQ(parse_bench_tests("pp512,tg32,tg1@d4096,pp64@d131072"), expected);
}

TEST(BenchTests, NamesComeBackAsTheyWere) {
  for (const char* name : {"pp1", "tg16777216", "tg32@d1", "pp512@d32768"})
    EXPECT_EQ(to_string(parse_bench_tests(name).at(0)), name);
}

TEST(BenchTests, EverythingElseIsRefusedByName) {
  for (const char* name :
       {"", "pp", "tg", "512", "xx5", "pp0", "pp-1", "pp+1", "pp 5", "pp5x", "tg32@", "tg32@d",
        "tg32@4096", "tg32@d0", "tg@d5", "pp16777217", "tg1@d99999999999999999999", "PP5"}) {
    try {
      parse_bench_tests(name);
      FAIL() << name;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kUsage);
      EXPECT_NE(std::string(e.what()).find("\"" + std::string(name) + "\""), std::string::npos)
          << e.what();
    }
  }
  EXPECT_THROW(parse_bench_tests("pp5,"), Error);
  EXPECT_THROW(parse_bench_tests(",pp5"), Error);
}

}  // namespace
}  // namespace lapidary
