// Keys of rank_pattern match as PEFT's own function does, and never for long.
#include "formats/module_pattern.h"

#include "tests/formats/error_of.h"

namespace lapidary {
namespace {

constexpr std::string_view kName = "model.layers.3.self_attn.q_proj";

TEST(ModulePattern, FitsTheWholeNameOrItsLastComponents) {
  for (const char* key :
       {"q_proj", "self_attn.q_proj", "model.layers.3.self_attn.q_proj", "layers\\.[0-3]\\..*",
        "^model.layers.3.self_attn.q_proj", "k_proj|q_proj"})
    EXPECT_TRUE(ModulePattern(key).matches(kName)) << key;
  for (const char* key : {"proj", "q_pro", "layers.3", "^layers.3.self_attn.q_proj", "k_proj", ""})
    EXPECT_FALSE(ModulePattern(key).matches(kName)) << key;
}

TEST(ModulePattern, RefusesWhatDoesNotCompileOrNeverEnds) {
  EXPECT_EQ(error_of([] { ModulePattern("(q_proj"); }).code(), ErrorCode::kBadData);
  EXPECT_EQ(error_of([] { ModulePattern(std::string(5000, 'a')); }).code(), ErrorCode::kBadData);
  const ModulePattern slow("((([a-w_.0-9]+)+)+)+[x-z]");
  EXPECT_EQ(error_of([&] { (void)slow.matches(kName); }).code(), ErrorCode::kBadData);
}

TEST(ModulePattern, TellsExpressionsFromNames) {
  EXPECT_TRUE(looks_like_regex(".*\\.(q|v)_proj"));
  EXPECT_FALSE(looks_like_regex("self_attn.q_proj"));
}

}  // namespace
}  // namespace lapidary
