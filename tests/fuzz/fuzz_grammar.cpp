// Any bytes as a JSON Schema (when they begin with a brace) or a regular expression: an Error, or a
// constraint that never runs into a dead end.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "formats/error.h"
#include "tests/runtime/grammar/grammar_fixture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  std::string text(reinterpret_cast<const char*>(data), size);
  const bool is_schema = text.starts_with('{');
  ConstraintLimits limits;
  limits.max_state_bytes = 8 << 20;
  try {
    const Rule rule = is_schema ? Rule::schema(std::move(text)) : Rule::regex(std::move(text));
    Matcher matcher(Constraint::compile(rule, small_vocabulary(), {kStop}, limits));
    for (size_t step = 0; step < 20 && !matcher.is_finished(); ++step) {
      const auto mask = matcher.mask();
      int32_t chosen = -1;
      for (int32_t id = 0; id < small_vocabulary()->size(); ++id)
        if (mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1)
          if (chosen < 0 || (size > step && data[step] % 7 == id % 7)) chosen = id;
      if (chosen < 0 || !matcher.accept(chosen)) std::abort();
    }
  } catch (const Error&) {
  }
  return 0;
}
