// Gemma 4's assistants: the guesses of transformers, for the right target, and answers that stay
// the same.
#include "runtime/assistant.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "formats/file.h"
#include "runtime/generate.h"
#include "tests/assistant_folder.h"
#include "tests/formats/error_of.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

// As in parity_test: both sides sum float32 in orders of their own. A state's numbers are up to ten
// times larger than the logits', and are the sum of as many terms.
constexpr double kLogitTolerance = 1e-3;
constexpr double kStateTolerance = 1e-2;

std::string made_lap(const TemporaryFolder& folder, const std::string& from) {
  const std::string path = folder.file("assistant.lap");
  convert(*HfSource::open(from), path, {});
  return path;
}

double largest_difference(std::span<const float> got, std::span<const float> want) {
  EXPECT_EQ(got.size(), want.size());
  double most = 0;
  for (size_t i = 0; i < got.size(); ++i)
    most = std::max(most, std::abs(double{got[i]} - double{want[i]}));
  return most;
}

// All but the last token into a sequence; the target's state behind them.
std::vector<float> read_prompt(Engine& engine, Sequence& sequence, std::span<const int32_t> ids) {
  std::vector<float> state(static_cast<size_t>(engine.model().config().d_model));
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    const BatchItem item{&sequence, ids.subspan(i, 1), 0, nullptr, nullptr, state.data()};
    engine.step({&item, 1});
  }
  return state;
}

// `prefix`: of the names in the reference.
void expect_reference(const std::string& lap, const std::string& prefix) {
  const auto reference =
      SafetensorsSet::open_file(data_path("tiny-assistant/reference.safetensors"));
  Engine engine(converted_model("nano-e"), {.n_threads = 2});
  const auto assistant = Assistant::load(lap, engine);
  for (const std::string i : {"0", "1"}) {
    const std::vector<int32_t> ids = ints_of(reference, "ids." + i);
    const auto sequence = engine.new_sequence(std::ssize(ids), KvCode::kF32);
    std::vector<float> state = read_prompt(engine, *sequence, ids);
    EXPECT_LE(largest_difference(state, floats_of(reference, "state." + i)), kStateTolerance);
    const std::vector<int32_t> tokens = ints_of(reference, prefix + "tokens." + i);
    const std::vector<float> logits = floats_of(reference, prefix + "logits." + i);
    const size_t vocab = logits.size() / tokens.size();
    int32_t token = ids.back();
    for (size_t step = 0; step < tokens.size(); ++step) {
      token = assistant->guess(*sequence, token, state);
      EXPECT_EQ(token, tokens[step]) << i << " " << step;
      EXPECT_LE(
          largest_difference(assistant->logits(), std::span(logits).subspan(step * vocab, vocab)),
          kLogitTolerance);
    }
    if (prefix.empty()) {
      EXPECT_LE(largest_difference(state, floats_of(reference, "next." + i)), kStateTolerance);
    }
    EXPECT_EQ(sequence->length(), std::ssize(ids) - 1);
  }
}

TEST(Assistant, GuessesWhatTransformersGuesses) {
  const TemporaryFolder folder;
  expect_reference(made_lap(folder, data_path("tiny-assistant")), "");
}

TEST(Assistant, GuessesWhatTransformersGuessesFromTheWholeVocabulary) {
  const TemporaryFolder folder;
  expect_reference(made_lap(folder, changed_assistant(folder, without_clusters())), "full_");
}

// Text on which guesses hold and fail; rings go round, pages are packed, runs are taken back.
TEST(Assistant, AnswersAreThoseWithoutGuesses) {
  const TemporaryFolder folder;
  const std::string lap = made_lap(folder, data_path("tiny-assistant"));
  QuantizeOptions options;
  options.weights = Code::kW4;
  quantize(*HfSource::open(data_path("tiny-assistant")), folder.file("w4.lap"), options, {});
  for (const Code weights : {Code::kBF16, Code::kW4}) {
    const auto model = quantized_model("nano-e", weights);
    Engine engine(model, {.n_threads = 2});
    const auto assistant =
        Assistant::load(weights == Code::kW4 ? folder.file("w4.lap") : lap, engine);
    int64_t n_held = 0, n_guessed = 0;
    for (const char* kv : {"off", "k4v4"})
      for (const char* text :
           {"<|turn>user\nCopy this line twice: red green blue<turn|>\n<|turn>model\n",
            "The options of the command are", "1 2 3 4 5 6 7"}) {
        const std::vector<int32_t> prompt = model->tokenizer().encode(text);
        for (const bool greedy : {true, false}) {
          GenerateOptions plain;
          plain.max_tokens = 200;
          plain.sampling.greedy = greedy;
          plain.sampling.temperature = 0.8f;
          plain.sampling.seed = 5;
          GenerateOptions ahead = plain;
          ahead.draft = {6, assistant.get()};
          const auto one = engine.new_sequence(300, parse_kv_code(kv)),
                     other = engine.new_sequence(300, parse_kv_code(kv));
          const GenerateResult want = generate(engine, *one, prompt, plain);
          const GenerateResult got = generate(engine, *other, prompt, ahead);
          EXPECT_EQ(got.tokens, want.tokens) << kv << " " << text;
          EXPECT_EQ(got.finish_reason, want.finish_reason);
          EXPECT_EQ(other->length(), one->length());
          EXPECT_EQ(want.n_guessed, 0);
          n_held += got.n_held;
          n_guessed += got.n_guessed;
        }
      }
    std::printf("%s: %d of %d guesses held\n", std::string(code_name(weights)).c_str(), int(n_held),
                int(n_guessed));
    // It was trained for a few minutes: a third is what it reaches, chance would be one in 8192.
    EXPECT_GT(n_held, n_guessed / 5);
    EXPECT_GT(n_guessed, 500);
  }
}

TEST(Assistant, IsNoModelOfItsOwn) {
  const TemporaryFolder folder;
  const std::string lap = made_lap(folder, data_path("tiny-assistant"));
  const Error error = error_of([&] { Model::load(lap); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_NE(std::string(error.what()).find("--draft-model"), std::string::npos);
}

TEST(Assistant, IsRefusedByAnotherModel) {
  const TemporaryFolder folder;
  const std::string lap = made_lap(folder, data_path("tiny-assistant"));
  const auto refusal = [&](const std::string& path, const std::string& target) {
    Engine engine(converted_model(target), {.n_threads = 1});
    const Error error = error_of([&] { Assistant::load(path, engine); });
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return std::string(error.what());
  };
  EXPECT_NE(refusal(lap, "tiny-gemma4-omni").find("d_model is 192 there and 64"),
            std::string::npos);
  EXPECT_NE(refusal(converted_path("nano-e"), "nano-e").find("a whole model"), std::string::npos);

  const auto changed = [&](const AssistantChange& change) {
    return refusal(made_lap(folder, changed_assistant(folder, change)), "nano-e");
  };
  EXPECT_NE(changed({{}, {{"sliding_window", "64"}}, {}, {}}).find("window is 64"),
            std::string::npos);
  auto ropes = nlohmann::json::parse(
      read_text(data_path("tiny-assistant/config.json")))["text_config"]["rope_parameters"];
  ropes["sliding_attention"]["rope_theta"] = 5000.0;
  EXPECT_NE(changed({{}, {{"rope_parameters", ropes.dump()}}, {}, {}}).find("RoPE of its sliding"),
            std::string::npos);
}

// Another tokenizer of the same size: told by the first token that differs.
TEST(Assistant, TokensMustBeTheTargets) {
  const TemporaryFolder folder;
  const std::string with = changed_assistant(folder, {});
  std::string tokenizer = read_text(data_path("nano-e/tokenizer.json"));
  write_text_atomically(with + "/tokenizer.json", tokenizer);
  Engine engine(converted_model("nano-e"), {.n_threads = 1});
  EXPECT_NO_THROW(Assistant::load(made_lap(folder, with), engine));

  auto json = nlohmann::json::parse(tokenizer);
  auto& vocabulary = json["model"]["vocab"];
  const auto a = vocabulary["the"], b = vocabulary["and"];
  vocabulary["the"] = b;
  vocabulary["and"] = a;
  json["model"]["merges"] = nlohmann::json::array();
  write_text_atomically(with + "/tokenizer.json", json.dump());
  const Error error = error_of([&] { Assistant::load(made_lap(folder, with), engine); });
  EXPECT_NE(std::string(error.what()).find("there and"), std::string::npos) << error.what();
}

}  // namespace
}  // namespace lapidary
