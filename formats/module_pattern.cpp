// Patterns on PCRE2, whose syntax agrees with Python's re in what people write here.
#include "formats/module_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "formats/error.h"
#include "formats/json_guard.h"

namespace lapidary {
namespace {

constexpr size_t kMaxPatternBytes = 4096;
// Names have some 60 characters; honest patterns need a few thousand steps, nested quantifiers
// billions.
constexpr uint32_t kMaxSteps = 100000;

}  // namespace

ModulePattern::ModulePattern(std::string_view key) : shown_(excerpt(key)) {
  if (key.size() > kMaxPatternBytes)
    fail(ErrorCode::kBadData, "module pattern '{}' has {} bytes, expected at most {}", shown_,
         key.size(), kMaxPatternBytes);
  const std::string regex = "(?:.*\\.)?(?:" + std::string(key) + ")";
  int error = 0;
  PCRE2_SIZE position = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(regex.data()), regex.size(),
                                   PCRE2_ANCHORED | PCRE2_ENDANCHORED, &error, &position, nullptr);
  if (!code) fail(ErrorCode::kBadData, "module pattern '{}' is not a regular expression", shown_);
  code_ = {code, [](const pcre2_code* c) { pcre2_code_free(const_cast<pcre2_code*>(c)); }};
}

bool ModulePattern::matches(std::string_view module) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), &pcre2_match_context_free);
  if (!data || !context) fail(ErrorCode::kOutOfMemory, "out of memory while matching names");
  pcre2_set_match_limit(context.get(), kMaxSteps);
  const int result = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(module.data()), module.size(),
                                 0, 0, data.get(), context.get());
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0)
    fail(ErrorCode::kBadData, "module pattern '{}' takes too many steps on '{}'; simplify it",
         shown_, excerpt(module));
  return true;
}

bool looks_like_regex(std::string_view text) {
  return text.find_first_of("*+?^$|()[]{}\\") != std::string_view::npos;
}

}  // namespace lapidary
