// What constrained output costs at the largest vocabulary: the first mask of a state, later ones,
// choosing under a mask, compiling.
//
//   LAPIDARY_SHARED=../shared grammar_bench
//
// Uses the real Gemma 3 tokenizer (262,144 tokens), found as the tests find it.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "runtime/grammar/constraint.h"
#include "runtime/grammar/tool_calls.h"
#include "runtime/grammar/vocabulary.h"
#include "runtime/sampling.h"
#include "tests/runtime/text/tokenizer_fixture.h"

namespace lapidary {
namespace {

constexpr int64_t kVocab = 262'144;
constexpr int32_t kEos = 1;

const Tokenizer& gemma() {
  static const Tokenizer tokenizer = [] {
    const std::string path = shared_path("tokenizers/gemma3.tokenizer.json.xz");
    if (path.empty()) {
      std::fprintf(stderr, "needs tokenizers/gemma3.tokenizer.json.xz under LAPIDARY_SHARED\n");
      std::exit(66);
    }
    return Tokenizer::from_json(decompress_xz(path), kVocab + 64);
  }();
  return tokenizer;
}
std::shared_ptr<const grammar::Vocabulary> vocabulary() {
  static const auto all = std::make_shared<const grammar::Vocabulary>(gemma());
  return all;
}

std::string wide_schema(int n) {
  static constexpr const char* kTypes[] = {
      R"({"type":"string"})", R"({"type":"integer","minimum":0,"maximum":100000})",
      R"({"type":"array","items":{"type":"string","maxLength":20}})",
      R"({"enum":["red","green","blue"]})", R"({"type":"string","format":"date-time"})"};
  std::string text = R"({"type":"object","properties":{)";
  for (int i = 0; i < n; ++i)
    text += (i ? ",\"property_" : "\"property_") + std::to_string(i) + "\":" + kTypes[i % 5];
  return text + R"(},"required":["property_0"]})";
}

void compile_schema(benchmark::State& state) {
  const std::string schema = wide_schema(static_cast<int>(state.range(0)));
  size_t nodes = 0;
  vocabulary();  // made once, outside of the clock
  for (auto _ : state)
    nodes = Constraint::compile(Rule::schema(schema), vocabulary(), {kEos})->n_nodes();
  state.counters["nodes"] = static_cast<double>(nodes);
}
BENCHMARK(compile_schema)->Arg(100)->Unit(benchmark::kMillisecond);

struct Place {
  const char* name;
  const char* schema;
  const char* text;  // written before the mask is asked for
};
const Place kPlaces[] = {
    {"start", R"({"type":"object"})", ""},
    {"key", R"({"type":"object"})", "{\""},
    {"string", R"({"type":"object"})", "{\"a\": \"b"},
    {"string_length", R"({"type":"string","maxLength":500})", "\"b"},
    {"string_pattern", R"({"type":"string","pattern":"^[A-Z][a-z ]*$"})", "\"B"},
    {"number", R"({"type":"number"})", "1"},
    {"enum", R"({"enum":["red","green","blue"]})", "\""},
};

void write(Matcher& matcher, std::string_view text) {
  for (const int32_t id : gemma().encode(text, {.parse_special = false}))
    if (!matcher.accept(id)) std::abort();
}

// Nothing of the grammar is known yet: the worst case of a token.
void first_mask(benchmark::State& state) {
  const Place& place = kPlaces[state.range(0)];
  for (auto _ : state) {
    state.PauseTiming();
    const auto constraint = Constraint::compile(Rule::schema(place.schema), vocabulary(), {kEos});
    Matcher matcher(constraint);
    write(matcher, place.text);
    state.ResumeTiming();
    benchmark::DoNotOptimize(matcher.mask().data());
  }
  state.SetLabel(place.name);
}
BENCHMARK(first_mask)->DenseRange(0, std::size(kPlaces) - 1)->Unit(benchmark::kMillisecond);

// The same where a model may call tools: in its free text, and in a string of a call.
void first_tool_mask(benchmark::State& state) {
  const Rule rule = tool_calls_rule(
      ReplyFormat::kQwen3, R"([{"name": "f", "parameters": )" + wide_schema(100) + "}]", {});
  for (auto _ : state) {
    state.PauseTiming();
    const auto constraint = Constraint::compile(rule, vocabulary(), {kEos});
    Matcher matcher(constraint);
    if (state.range(0) == 1)
      write(matcher, R"(<tool_call>
{"name": "f", "arguments": {"property_0": "b)");
    state.ResumeTiming();
    benchmark::DoNotOptimize(matcher.mask().data());
  }
  state.SetLabel(state.range(0) == 0 ? "free text" : "argument");
}
BENCHMARK(first_tool_mask)->DenseRange(0, 1)->Unit(benchmark::kMillisecond);

// A new state whose innermost network is known: the second string of an object.
void next_string(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    const auto constraint =
        Constraint::compile(Rule::schema(wide_schema(100)), vocabulary(), {kEos});
    Matcher matcher(constraint);
    write(matcher, "{\"property_0\": \"b");
    matcher.mask();
    write(matcher, "\", \"property_5\": \"b");
    state.ResumeTiming();
    benchmark::DoNotOptimize(matcher.mask().data());
  }
}
BENCHMARK(next_string)->Unit(benchmark::kMicrosecond);

// One new state after the other, far from the bound of a long string: each token of a long text.
void long_string(benchmark::State& state) {
  const std::string schema =
      R"({"type":"string","maxLength":)" + std::to_string(state.range(0)) + "}";
  const auto constraint = Constraint::compile(Rule::schema(schema), vocabulary(), {kEos});
  const int32_t letter = gemma().encode("b", {.parse_special = false}).at(0);
  Matcher matcher(constraint);
  write(matcher, "\"b");
  matcher.mask();
  for (auto _ : state) {
    if (!matcher.accept(letter)) state.SkipWithError("the string is full");
    benchmark::DoNotOptimize(matcher.mask().data());
  }
}
BENCHMARK(long_string)->Arg(4000)->Iterations(2000)->Unit(benchmark::kMicrosecond);

void compile_long_string(benchmark::State& state) {
  const std::string schema =
      R"({"type":"string","maxLength":)" + std::to_string(state.range(0)) + "}";
  vocabulary();
  for (auto _ : state)
    benchmark::DoNotOptimize(Constraint::compile(Rule::schema(schema), vocabulary(), {kEos}));
}
BENCHMARK(compile_long_string)->Arg(200)->Arg(4000)->Arg(20000)->Unit(benchmark::kMillisecond);

// mask() and accept() along a text whose states are all known.
void known_states(benchmark::State& state) {
  const auto constraint = Constraint::compile(Rule::any_json(), vocabulary(), {kEos});
  const std::vector<int32_t> ids =
      gemma().encode(R"({"name": "Ada Lovelace", "born": 1815, "notes": ["first", true]})");
  for (auto _ : state) {
    Matcher matcher(constraint);
    for (const int32_t id : ids) {
      benchmark::DoNotOptimize(matcher.mask().data());
      if (!matcher.accept(id)) std::abort();
    }
  }
  state.counters["per_token"] = benchmark::Counter(
      static_cast<double>(ids.size()),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(known_states)->Unit(benchmark::kMicrosecond);

// The greedy choice over all logits, without a mask (range 0), under a nearly full one and under a
// nearly empty one.
void choose(benchmark::State& state) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> logits(static_cast<size_t>(vocabulary()->size()));
  for (float& x : logits) x = normal(random);
  Sampler sampler({.greedy = true}, static_cast<int64_t>(logits.size()));
  const auto constraint = Constraint::compile(Rule::any_json(), vocabulary(), {kEos});
  Matcher matcher(constraint);
  write(matcher, state.range(0) == 1 ? "{\"a\": \"b" : "{");
  const auto mask = state.range(0) == 0 ? std::span<const uint64_t>() : matcher.mask();
  for (auto _ : state) benchmark::DoNotOptimize(sampler.sample(logits, mask));
  static constexpr const char* kLabels[] = {"no mask", "in a string", "after a brace"};
  state.SetLabel(kLabels[state.range(0)]);
}
BENCHMARK(choose)->DenseRange(0, 2)->Unit(benchmark::kMicrosecond);

void build_vocabulary(benchmark::State& state) {
  size_t bytes = 0;
  for (auto _ : state) bytes = grammar::Vocabulary(gemma()).memory_bytes();
  state.counters["bytes"] = static_cast<double>(bytes);
}
BENCHMARK(build_vocabulary)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace lapidary

BENCHMARK_MAIN();
