// The names of speed tests: pp512, tg32, tg32@d4096. As llama-bench calls them: prompt processing
// of N tokens, generation of N tokens one by one, after D tokens that are there already.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

struct BenchTest {
  enum class Kind : uint8_t { kPrompt, kGenerate };
  Kind kind = Kind::kPrompt;
  int64_t n_tokens = 0;
  int64_t depth = 0;  // tokens in the cache before
  bool operator==(const BenchTest&) const = default;
};

// "pp512,tg32@d4096", in the given order; a depth of either kind. Throws kUsage naming the wrong
// one. Counts are 1 to 2^24.
std::vector<BenchTest> parse_bench_tests(std::string_view list);
std::string to_string(const BenchTest& test);

}  // namespace lapidary
