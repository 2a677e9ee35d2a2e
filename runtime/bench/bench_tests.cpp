// Strict: what is not fully understood is refused, so that no figure stands under a wrong name.
#include "runtime/bench/bench_tests.h"

#include <charconv>
#include <optional>

#include "formats/error.h"

namespace lapidary {
namespace {

constexpr int64_t kMost = int64_t{1} << 24;

// Digits only, the whole text.
std::optional<int64_t> count(std::string_view text) {
  int64_t n = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, n);
  if (error != std::errc() || stop != end || n < 1 || n > kMost) return std::nullopt;
  return n;
}

std::optional<BenchTest> parse_one(std::string_view name) {
  BenchTest test;
  if (name.starts_with("tg"))
    test.kind = BenchTest::Kind::kGenerate;
  else if (!name.starts_with("pp"))
    return std::nullopt;
  name.remove_prefix(2);
  if (const size_t at = name.find("@d"); at != std::string_view::npos) {
    const auto depth = count(name.substr(at + 2));
    if (!depth) return std::nullopt;
    test.depth = *depth;
    name = name.substr(0, at);
  }
  const auto n_tokens = count(name);
  if (!n_tokens) return std::nullopt;
  test.n_tokens = *n_tokens;
  return test;
}

}  // namespace

std::vector<BenchTest> parse_bench_tests(std::string_view list) {
  std::vector<BenchTest> tests;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string_view name = list.substr(begin, end - begin);
    const auto test = parse_one(name);
    if (!test)
      fail(ErrorCode::kUsage,
           "test \"{}\": expected ppN, tgN, ppN@dD or tgN@dD with 1 to {}, for example pp512 or "
           "tg32@d4096",
           name, kMost);
    tests.push_back(*test);
    begin = end + 1;
  }
  return tests;
}

std::string to_string(const BenchTest& test) {
  std::string name =
      fmt::format("{}{}", test.kind == BenchTest::Kind::kPrompt ? "pp" : "tg", test.n_tokens);
  if (test.depth > 0) name += fmt::format("@d{}", test.depth);
  return name;
}

}  // namespace lapidary
