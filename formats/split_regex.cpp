// PCRE2 behind SplitRegex: compile once with limits, match with JIT where the CPU has it.
//
// Patterns come from files we do not trust. Length, nesting, match steps and heap are bounded, so a
// hostile pattern ends in an Error. UTF-8 is checked by the caller: PCRE2's own check would read
// the rest of the text again for every match.
#include "formats/split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "formats/error.h"

namespace lapidary {
namespace {

constexpr size_t kMaxPatternBytes = 16 * 1024;
constexpr uint32_t kMaxNesting = 100;
constexpr uint32_t kMaxMatchSteps = 50'000'000;  // a megabyte of spaces needs about 1e6
constexpr uint32_t kMaxHeapKib = 256 * 1024;
constexpr size_t kJitStackStart = 32 * 1024, kJitStackMax = 1024 * 1024;

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

template <class T, void (*kFree)(T*)>
struct Freed {
  void operator()(T* p) const { kFree(p); }
};
template <class T, void (*kFree)(T*)>
using Held = std::unique_ptr<T, Freed<T, kFree>>;

using Code = Held<pcre2_code, pcre2_code_free>;
using CompileContext = Held<pcre2_compile_context, pcre2_compile_context_free>;
using MatchContext = Held<pcre2_match_context, pcre2_match_context_free>;
using MatchData = Held<pcre2_match_data, pcre2_match_data_free>;
using JitStack = Held<pcre2_jit_stack, pcre2_jit_stack_free>;

size_t next_character(std::string_view text, size_t at) {
  ++at;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  return at;
}

}  // namespace

struct SplitRegex::State {
  std::string pattern;
  Code code;
};

SplitRegex::SplitRegex(std::string_view pattern) : state_(std::make_unique<State>()) {
  if (pattern.size() > kMaxPatternBytes)
    fail(ErrorCode::kBadData, "regex of {} bytes, the limit is {}", pattern.size(),
         kMaxPatternBytes);
  state_->pattern = pattern;
  const std::string translated = translate_to_pcre2(pattern);
  CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_parens_nest_limit(context.get(), kMaxNesting);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  size_t where = 0;
  // Ruby: ^ and $ match at every line.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  state_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                   translated.size(), kOptions, &code, &where, context.get()));
  if (!state_->code) fail(ErrorCode::kBadData, "regex '{}': {}", pattern, message_of(code));
  // Without JIT (unsupported CPU, no executable memory) matching interprets; results are the same.
  pcre2_jit_compile(state_->code.get(), PCRE2_JIT_COMPLETE);
}

SplitRegex::SplitRegex(SplitRegex&&) noexcept = default;
SplitRegex& SplitRegex::operator=(SplitRegex&&) noexcept = default;
SplitRegex::~SplitRegex() = default;

std::vector<TextRange> SplitRegex::find_all(std::string_view text) const {
  MatchContext context(pcre2_match_context_create(nullptr));
  MatchData data(pcre2_match_data_create_from_pattern(state_->code.get(), nullptr));
  JitStack stack(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr));
  if (!context || !data) throw std::bad_alloc();
  pcre2_set_match_limit(context.get(), kMaxMatchSteps);
  pcre2_set_heap_limit(context.get(), kMaxHeapKib);
  if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());

  std::vector<TextRange> matches;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (size_t from = 0; from <= text.size();) {
    const auto match = [&](uint32_t options) {
      return pcre2_match(state_->code.get(), subject, text.size(), from,
                         PCRE2_NO_UTF_CHECK | options, data.get(), context.get());
    };
    int found = match(0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0)
      fail(ErrorCode::kBadData, "regex '{}' at byte {} of a text of {} bytes: {}", state_->pattern,
           from, text.size(), message_of(found));
    const size_t* range = pcre2_get_ovector_pointer(data.get());
    const size_t begin = range[0], end = range[1];
    if (begin == end && !matches.empty() && matches.back().end == end) {
      from = next_character(text, from);
    } else {
      matches.push_back({begin, end});
      from = end;
    }
  }
  return matches;
}

}  // namespace lapidary
