// A token's logits are the same bits for any chunking, batch and thread count: the promise
// that prefix reuse, speculation and paired verdicts stand on. Compared as bytes, no
// tolerance.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstring>

#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

struct Variant {
  std::string checkpoint;
  Code weights;
  ActivationType activations;
  KvOptions kv;
};

std::string text_of(const Variant& v) {
  std::string name = v.checkpoint + "_" + std::string(code_name(v.weights)) +
                     (v.activations == ActivationType::kInt8 ? "_int8" : "_16bit") + "_kv " +
                     describe(v.kv);
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}
std::string label(const testing::TestParamInfo<Variant>& info) { return text_of(info.param); }
void PrintTo(const Variant& variant, std::ostream* out) { *out << text_of(variant); }

// Longer than every small checkpoint's window (at most 128), so that rings wrap, and than the exact
// ends that packed caches are given here.
constexpr int64_t kTokens = 170;

std::vector<int32_t> some_tokens(int64_t n, uint32_t seed, int vocab_size) {
  std::vector<int32_t> ids;
  for (uint32_t i = 0; i < n; ++i)
    ids.push_back(
        static_cast<int32_t>(((i + seed) * 2654435761u >> 9) % static_cast<uint32_t>(vocab_size)));
  return ids;
}

class BitIdentity : public testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    LAPIDARY_SKIP_WITHOUT(checkpoint_folder(GetParam().checkpoint));
    model_ = quantized_model(GetParam().checkpoint, GetParam().weights);
    ids_ = some_tokens(kTokens, 1, model_->config().vocab_size);
    want_ = logits_of(*engine(2), ids_, GetParam().kv);
  }

  std::unique_ptr<Engine> engine(int n_threads, int max_batch_tokens = 256) const {
    EngineOptions options;
    options.n_threads = n_threads;
    options.max_batch_tokens = options.max_logits = max_batch_tokens;
    options.activations = GetParam().activations;
    return std::make_unique<Engine>(model_, options);
  }

  // `logits` are those of tokens [first, ...).
  void expect_same(std::span<const float> logits, int64_t first, const std::string& what) const {
    const size_t vocab = static_cast<size_t>(model_->config().vocab_size);
    const auto want = std::span(want_).subspan(static_cast<size_t>(first) * vocab);
    ASSERT_LE(logits.size(), want.size()) << what;
    for (size_t t = 0; t < logits.size() / vocab; ++t)
      ASSERT_EQ(std::memcmp(logits.data() + t * vocab, want.data() + t * vocab, vocab * 4), 0)
          << what << ": first difference at token " << first + static_cast<int64_t>(t);
  }

  std::shared_ptr<const Model> model_;
  std::vector<int32_t> ids_;
  std::vector<float> want_;
};

TEST_P(BitIdentity, HoldsForEveryChunking) {
  const auto two = engine(2);
  for (const size_t chunk : {size_t{1}, size_t{7}, size_t{64}})
    expect_same(logits_of(*two, ids_, GetParam().kv, chunk), 0,
                "chunks of " + std::to_string(chunk));
  // A smaller engine has smaller rings.
  expect_same(logits_of(*engine(2, 33), ids_, GetParam().kv), 0, "an engine of 33 tokens");
}

TEST_P(BitIdentity, HoldsForEveryNumberOfThreads) {
  for (const int n_threads : {1, 3}) {
    const auto other = engine(n_threads);
    expect_same(logits_of(*other, ids_, GetParam().kv), 0, std::to_string(n_threads) + " threads");
    expect_same(logits_of(*other, std::span(ids_).first(20), GetParam().kv, 1), 0,
                std::to_string(n_threads) + " threads, token by token");
  }
}

TEST_P(BitIdentity, HoldsBesideOtherSequences) {
  const auto shared = engine(2);
  const auto mine = shared->new_sequence(kTokens, GetParam().kv);
  const auto long_one = shared->new_sequence(1000, GetParam().kv);
  const auto short_one = shared->new_sequence(1000, GetParam().kv);
  const std::vector<int32_t> others = some_tokens(1000, 77, model_->config().vocab_size);
  const size_t vocab = static_cast<size_t>(model_->config().vocab_size);
  for (size_t done = 0, round = 0; done < ids_.size(); ++round) {
    const size_t n = std::min<size_t>(1 + 11 * (round % 4), ids_.size() - done);
    const std::span<const int32_t> other = std::span(others).subspan(40 * round, 40);
    const BatchItem batch[] = {
        {long_one.get(), other.first(23), round % 2 ? 23 : 22},
        {mine.get(), std::span<const int32_t>(ids_).subspan(done, n), 0},
        {short_one.get(), other.first(1), 0},
    };
    const std::span<const float> logits = shared->step(batch);
    expect_same(logits.subspan(round % 2 ? 0 : vocab, n * vocab), static_cast<int64_t>(done),
                "round " + std::to_string(round));
    done += n;
  }
}

TEST_P(BitIdentity, HoldsWhenOnlySomeLogitsAreWanted) {
  // Unwanted tokens are dropped before the layers that share K and V.
  const auto two = engine(2);
  const auto sequence = two->new_sequence(kTokens, GetParam().kv);
  const std::span<const int32_t> ids = ids_;
  const BatchItem silent{sequence.get(), ids.first(100), 100};
  EXPECT_TRUE(two->step({&silent, 1}).empty());
  const BatchItem three{sequence.get(), ids.subspan(100, 60), 57};
  expect_same(two->step({&three, 1}), 157, "the last three of 60");
  const BatchItem rest{sequence.get(), ids.subspan(160), 0};
  expect_same(two->step({&rest, 1}), 160, "the rest");
}

TEST_P(BitIdentity, HoldsAfterGoingBack) {
  const auto two = engine(2, 40);
  const auto sequence = two->new_sequence(kTokens, GetParam().kv);
  const std::span<const int32_t> ids = ids_;
  const std::vector<int32_t> wrong = some_tokens(40, 5, model_->config().vocab_size);
  for (size_t done = 0; done < 160; done += 40) {
    const BatchItem item{sequence.get(), ids.subspan(done, 40), 40};
    two->step({&item, 1});
  }
  // As far back as the rings allow, over tokens that were then something else.
  sequence->truncate(130);
  const BatchItem guess{sequence.get(), std::span(wrong).first(30), 29};
  two->step({&guess, 1});
  sequence->truncate(125);
  const BatchItem again{sequence.get(), ids.subspan(125, 40), 0};
  expect_same(two->step({&again, 1}), 125, "redone");
  sequence->truncate(0);
  const BatchItem fresh{sequence.get(), ids.first(40), 0};
  expect_same(two->step({&fresh, 1}), 0, "from the beginning");
}

KvOptions packed(const char* kv, const char* exact, const char* sliding = "",
                 const char* global = "") {
  return *parse_kv({kv, exact, sliding, global, false});
}

constexpr ActivationType kInt8 = ActivationType::kInt8, k16Bit = ActivationType::k16Bit;
INSTANTIATE_TEST_SUITE_P(, BitIdentity,
                         testing::Values(Variant{"nano-e", Code::kBF16, kInt8, KvCode::kF32},
                                         Variant{"nano-e", Code::kBF16, kInt8, KvCode::kBF16},
                                         Variant{"nano-e", Code::kW4, kInt8, KvCode::kBF16},
                                         Variant{"nano-e", Code::kW4, k16Bit, KvCode::kBF16},
                                         Variant{"tiny-gemma3", Code::kW8, kInt8, KvCode::kBF16},
                                         Variant{"tiny-llama3", Code::kW3, kInt8, KvCode::kF32},
                                         Variant{"tiny-qwen3", Code::kW4x, kInt8, KvCode::kBF16},
                                         Variant{"small-dense", Code::kBF16, kInt8, KvCode::kBF16},
                                         Variant{"small-moe", Code::kBF16, kInt8, KvCode::kBF16},
                                         Variant{"small-moe", Code::kW4, kInt8, KvCode::kBF16}),
                         label);

INSTANTIATE_TEST_SUITE_P(
    Packed, BitIdentity,
    testing::Values(Variant{"nano-e", Code::kBF16, kInt8, packed("k8v8", "0,0")},
                    Variant{"nano-e", Code::kBF16, kInt8, packed("k4v4", "64,0", "k8v8")},
                    Variant{"nano-e", Code::kW4, kInt8, packed("k8v3", "0,64")},
                    Variant{"nano-e", Code::kBF16, kInt8, packed("k3v3", "0,0")},
                    Variant{"tiny-gemma3", Code::kW8, kInt8, packed("k4v4", "0,0", "k8v8")},
                    Variant{"tiny-llama3", Code::kW3, kInt8, packed("k3v3", "64,0")},
                    Variant{"tiny-qwen3", Code::kW4x, kInt8, packed("k8v4", "0,0")},
                    Variant{"small-dense", Code::kBF16, kInt8, packed("k8v8", "0,0")},
                    Variant{"small-dense", Code::kBF16, kInt8, packed("k4v4", "0,0", "k8v8")},
                    Variant{"small-dense", Code::kBF16, kInt8,
                            packed("k4v4", "64,0", "", "separate")},
                    Variant{"small-moe", Code::kW4, kInt8, packed("k3v3", "0,0", "", "v4")}),
    label);

}  // namespace
}  // namespace lapidary
