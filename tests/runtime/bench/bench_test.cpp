// run_bench on a model of a few megabytes: every test gives figures that belong together.
#include "runtime/bench/bench.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/kernels.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

BenchOptions options(const char* tests) {
  BenchOptions o;
  o.tests = parse_bench_tests(tests);
  o.repetitions = 2;
  o.engine.n_threads = 2;
  o.engine.max_batch_tokens = 32;
  return o;
}

TEST(RunBench, FiguresOfEachTestBelongTogether) {
  const BenchReport report =
      run_bench(quantized_model("nano-e", Code::kW4), options("pp70,tg3,tg3@d300,pp40@d200"), {});
  EXPECT_EQ(report.n_threads, std::min(2, available_cores()));
  EXPECT_EQ(report.isa, kernels().name);
  EXPECT_GT(report.read_gbps, 0);
  ASSERT_EQ(report.results.size(), 4u);
  for (const BenchResult& r : report.results) {
    const std::string name = to_string(r.test);
    EXPECT_GT(r.tokens_per_second, 0) << name;
    EXPECT_LE(r.slowest, r.tokens_per_second) << name;
    EXPECT_GE(r.fastest, r.tokens_per_second) << name;
    EXPECT_LE(r.read_gbps, report.read_gbps) << name;
    EXPECT_GT(r.share_of_bandwidth, 0) << name;
    EXPECT_GE(r.n_clean + r.n_disturbed, 2) << name;
    EXPECT_EQ(r.disturbed, r.n_clean < 2) << name;
  }
  // Deeper generation reads more; a prompt shares its weights among its tokens.
  EXPECT_GT(report.results[2].bytes_per_token, report.results[1].bytes_per_token);
  EXPECT_LT(report.results[0].bytes_per_token, report.results[1].bytes_per_token / 4);
}

// At this depth a global layer has packed pages between its exact ends.
constexpr int64_t kDepth = 700;

TEST(RunBench, RandomHistoryIsFiniteAndBounded) {
  for (const char* kv : {"f32", "off", "k8v4", "k4v4"}) {
    Engine engine(converted_model("nano-e"), {.n_threads = 1, .max_batch_tokens = 32});
    const auto sequence = engine.new_sequence(kDepth + 1, parse_kv_code(kv));
    engine.append_random(*sequence, kDepth);
    EXPECT_EQ(sequence->length(), kDepth);
    const int32_t token = 5;
    const BatchItem item{sequence.get(), {&token, 1}, 0};
    for (const float logit : engine.step({&item, 1})) ASSERT_TRUE(std::isfinite(logit)) << kv;
    EXPECT_THROW(engine.append_random(*sequence, 1), Error);
  }
}

TEST(RunBench, PackedCachesReadLess) {
  const auto bytes = [](const char* kv) {
    BenchOptions o = options("tg1@d2000");
    o.repetitions = 1;
    o.kv = parse_kv_code(kv);
    return run_bench(quantized_model("nano-e", Code::kW4), o, {}).results[0].bytes_per_token;
  };
  const double plain = bytes("off"), packed = bytes("k4v4");
  EXPECT_LT(packed, plain);
  EXPECT_LT(plain, bytes("f32"));
}

}  // namespace
}  // namespace lapidary
