// A server that serves the same, a little else, or nonsense.
#include "runtime/verify/endpoint.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "runtime/verify/log_softmax.h"
#include "runtime/verify/verdict.h"
#include "tests/runtime/verify/fake_scorer.h"

namespace lapidary {
namespace {

// The next token depends on the last two; `shift` moves a few logits.
FakeScorer::Rule rule(float shift) {
  return [shift](std::span<const int32_t> history, std::span<float> row) {
    const int32_t last = history.back(), before = history.size() > 1 ? history.end()[-2] : 0;
    for (int i = 0; i < 40; ++i) {
      const size_t at = static_cast<size_t>((last * 31 + before * 7 + i * 97) % 8192);
      row[at] += 12.0f - 0.4f * static_cast<float>(i) + (i % 3 == 0 ? shift : 0.0f);
    }
  };
}

// What a server with these logits tells: its n best.
AskNextTokens server_of(const FakeScorer::Rule& rule, size_t n,
                        std::vector<std::vector<int32_t>>* prompts = nullptr) {
  return [rule, n, prompts](std::span<const int32_t> prompt) {
    if (prompts) prompts->emplace_back(prompt.begin(), prompt.end());
    std::vector<float> row(8192);
    rule(prompt, row);
    NextTokens best(n);
    keep_best(row, 0, best);
    for (Candidate& c : best) c.logit = static_cast<float>(-negative_log_likelihood(row, c.id));
    return best;
  };
}

const std::string& text() {
  static const std::string text = read_text(data_path("own.txt")).substr(0, 20'000);
  return text;
}

TEST(Endpoint, TheSameModelMeasuresNothing) {
  FakeScorer ours(rule(0));
  std::vector<std::vector<int32_t>> prompts;
  const EndpointComparison e =
      compare_endpoint(ours, server_of(rule(0), 20, &prompts), text(), {64, 300}, {});
  EXPECT_EQ(e.positions, 300);
  // Their log-probabilities are float32, ours double: 20 of them within 2^-21 each.
  EXPECT_LT(e.kld_mean, 1e-5);
  EXPECT_LT(e.largest_difference, 1e-5);
  EXPECT_EQ(e.top1_agreement, 1);
  VerifyResult result;
  result.endpoint = e;
  judge(result);
  EXPECT_EQ(result.verdict, Verdict::kPass);
  // BOS, then the window's tokens before the place; all within the context.
  const std::vector<int32_t> tokens = ours.tokenizer().encode(text());
  std::set<size_t> lengths;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const size_t at = i * tokens.size() / 300, start = at / 63 * 63;
    std::vector<int32_t> expected{2};
    expected.insert(expected.end(), tokens.begin() + static_cast<int64_t>(start),
                    tokens.begin() + static_cast<int64_t>(at));
    EXPECT_EQ(prompts[i], expected);
    lengths.insert(prompts[i].size());
  }
  EXPECT_GT(lengths.size(), 30u);
}

// The coarser set never makes more of a difference than the whole vocabulary.
TEST(Endpoint, AnotherModelMeasuresAtMostItsKld) {
  FakeScorer ours(rule(0));
  std::vector<float> a(8192), b(8192);
  const std::vector<int32_t> history{2};
  rule(0)(history, a);
  rule(1.0f)(history, b);
  const double whole = PairedSoftmax().compare(a, b, 0).kld;
  double last = 0;
  for (const size_t n_told : {5u, 20u, 40u}) {
    const EndpointComparison e =
        compare_endpoint(ours, server_of(rule(1.0f), n_told), text(), {64, 300}, {});
    EXPECT_GT(e.kld_mean, 0.02);
    EXPECT_LE(e.kld_mean, whole * 1.001);
    EXPECT_GE(e.kld_mean, last);  // more tokens told, more seen
    last = e.kld_mean;
    VerifyResult result;
    result.endpoint = e;
    judge(result);
    EXPECT_EQ(result.verdict, Verdict::kFail) << n_told;
  }
  EXPECT_NEAR(last, whole, 0.01 * whole);
}

TEST(Endpoint, FewPlacesAreInconclusive) {
  FakeScorer ours(rule(0));
  VerifyResult result;
  result.endpoint = compare_endpoint(ours, server_of(rule(0), 20), text(), {64, 30}, {});
  judge(result);
  EXPECT_EQ(result.verdict, Verdict::kInconclusive);
}

TEST(Endpoint, PlacesThatAreNotToldDoNotCount) {
  FakeScorer ours(rule(0));
  const AskNextTokens all = server_of(rule(0), 20);
  int n = 0;
  const auto some = [&](std::span<const int32_t> prompt) {
    return n++ % 3 == 0 ? NextTokens() : all(prompt);
  };
  EXPECT_EQ(compare_endpoint(ours, some, text(), {64, 300}, {}).positions, 200);
  const auto none = [&](std::span<const int32_t>) { return NextTokens(); };
  EXPECT_THROW(compare_endpoint(ours, none, text(), {64, 300}, {}), Error);
}

TEST(Endpoint, AsksWithIdsAndForLogProbabilities) {
  const auto json =
      nlohmann::json::parse(completion_request("m", std::vector<int32_t>{2, 7, 8}, 20));
  EXPECT_EQ(json["prompt"], nlohmann::json({2, 7, 8}));
  EXPECT_EQ(json["max_tokens"], 1);
  EXPECT_EQ(json["logprobs"], 20);
  EXPECT_EQ(json["model"], "m");
}

TEST(Endpoint, ReadsTheDialects) {
  const CompletionReader reader(nano_tokenizer(), 8192);
  const auto token = [](const std::string& piece) { return *nano_tokenizer().id_of(piece); };
  const std::string word = nlohmann::json(nano_tokenizer().token_bytes(500)).dump();
  const std::string answers[] = {
      R"({"choices":[{"logprobs":{"top_logprobs":[{"token_id:500":-0.5,"token_id:1":-2}]}}]})",
      R"({"choices":[{"logprobs":{"top_logprobs":[{)" + word + R"(:-0.5,"<eos>":-2}]}}]})",
      R"({"choices":[{"logprobs":{"content":[{"top_logprobs":[
         {"id":500,"token":"?","logprob":-0.5},{"token":"<eos>","logprob":-2}]}]}}]})"};
  for (const std::string& answer : answers) {
    const NextTokens tokens = reader.read(answer);
    ASSERT_EQ(tokens.size(), 2u) << answer;
    for (const Candidate& t : tokens) {
      EXPECT_TRUE(t.id == 500 || t.id == token("<eos>")) << answer;
      EXPECT_EQ(t.logit, t.id == 500 ? -0.5f : -2.0f);
    }
  }
}

// "s" is a token of its own, and what <0x73> stands for.
TEST(Endpoint, PrefersATokenOfItsOwnToAByte) {
  const CompletionReader reader(nano_tokenizer(), 8192);
  const NextTokens tokens =
      reader.read(R"({"choices":[{"logprobs":{"top_logprobs":[{"s":-0.5}]}}]})");
  ASSERT_EQ(tokens.size(), 1u);
  EXPECT_EQ(nano_tokenizer().piece(tokens[0].id), "s");
}

TEST(Endpoint, AnAnswerThatEndsAtOnceTellsNothing) {
  const CompletionReader reader(nano_tokenizer(), 8192);
  EXPECT_TRUE(reader
                  .read(R"({"choices":[{"text":"","finish_reason":"stop",
                            "logprobs":{"top_logprobs":[]}}]})")
                  .empty());
}

TEST(Endpoint, RefusesWhatSaysNothing) {
  const CompletionReader reader(nano_tokenizer(), 8192);
  for (const char* answer :
       {"", "null", "[]", "{}", "not json", R"({"choices":[]})", R"({"choices":[{"text":"a"}]})",
        R"({"choices":[{"logprobs":null}]})", R"({"choices":[{"logprobs":{"top_logprobs":[]}}]})",
        R"({"choices":[{"logprobs":{"top_logprobs":[{}]}}]})",
        R"({"choices":[{"logprobs":{"top_logprobs":[{"token_id:999999":-1,"token_id:-4":-1}]}}]})",
        R"({"choices":[{"logprobs":{"top_logprobs":[{"token_id:5":"x"}]}}]})",
        R"({"choices":[{"logprobs":{"top_logprobs":[{"token_id:5":7.5}]}}]})",
        R"({"choices":{"logprobs":{"content":[{"top_logprobs":[3]}]}}})"})
    EXPECT_THROW(reader.read(answer), Error) << answer;
}

}  // namespace
}  // namespace lapidary
