// Attention over caches: what each query sees, and that threads, turns and rings change no bit.
#include "runtime/attend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

namespace lapidary {
namespace {

constexpr int kWindow = 70;

ModelConfig one_layer(AttentionKind kind, int n_heads, int n_kv_heads, int head_dim) {
  ModelConfig config;
  LayerConfig layer;
  layer.attention = kind;
  layer.window = kWindow;
  layer.n_heads = n_heads;
  layer.n_kv_heads = n_kv_heads;
  layer.head_dim = head_dim;
  config.layers = {layer};
  return config;
}

// The component of K or V at a position, whatever the order of writing.
float cached(int64_t position, int head, int i, bool value) {
  std::minstd_rand engine(uint32_t(position * 8191 + head * 131 + i * 2 + value + 1));
  engine.discard(2);
  return float(engine() % 2001) / 1000.0f - 1.0f;
}

class Attend : public testing::TestWithParam<AttentionKind> {
 protected:
  Attend() : config_(one_layer(GetParam(), 6, 2, 8)) {}
  const LayerConfig& shape() const { return config_.layers[0]; }
  int64_t width() const { return int64_t{shape().n_heads} * shape().head_dim; }

  void write(Sequence& sequence, int64_t first, int64_t end) const {
    for (int64_t position = first; position < end; ++position)
      for (int head = 0; head < shape().n_kv_heads; ++head) {
        const Sequence::Slot slot = sequence.slot(0, position, head);
        for (int i = 0; i < shape().head_dim; ++i) {
          static_cast<float*>(slot.keys)[i] = cached(position, head, i, false);
          static_cast<float*>(slot.values)[i] = cached(position, head, i, true);
        }
      }
  }

  std::vector<float> queries(int64_t first, int64_t n) const {
    std::vector<float> q;
    for (int64_t i = first * width(); i < (first + n) * width(); ++i)
      q.push_back(std::sin(float(i % 1000) * 1.7f));
    return q;
  }

  // Results of queries at [first, first + n), in steps of `chunk`.
  std::vector<float> run(Sequence& sequence, int64_t first, int64_t n, int n_threads,
                         int64_t chunk) const {
    ThreadPool pool(n_threads);
    PageAttention attention(config_, int(chunk), kernels(), pool);
    std::vector<float> out(size_t(n * width()), NAN);
    const std::vector<float> q = queries(first, n);
    for (int64_t done = 0; done < n; done += chunk) {
      std::vector<Row> rows;
      for (int64_t t = done; t < std::min(n, done + chunk); ++t)
        rows.push_back({&sequence, nullptr, first + t, 0, int32_t(t), true});
      write(sequence, first + done, first + done + int64_t(rows.size()));
      attention.run(shape(), rows, q.data() + done * width(), out.data() + done * width());
    }
    return out;
  }

  void expect_softmax(const std::vector<float>& out, int64_t first, int64_t n) const {
    const std::vector<float> q = queries(first, n);
    const int d = shape().head_dim, group = shape().n_heads / shape().n_kv_heads;
    for (int64_t t = 0; t < n; ++t)
      for (int head = 0; head < shape().n_heads; ++head) {
        const int64_t position = first + t;
        const int64_t begin = GetParam() == AttentionKind::kSliding
                                  ? std::max<int64_t>(0, position - kWindow + 1)
                                  : 0;
        std::vector<double> sums(size_t(d) + 1);
        for (int64_t p = begin; p <= position; ++p) {
          double score = 0;
          for (int i = 0; i < d; ++i)
            score +=
                double{q[size_t(t * width() + head * d + i)]} * cached(p, head / group, i, false);
          for (int i = 0; i < d; ++i)
            sums[size_t(i)] += std::exp(score) * cached(p, head / group, i, true);
          sums[size_t(d)] += std::exp(score);
        }
        // Scores are below 8 and values below 1: 16 roundings of 8, twice, and one per key.
        for (int i = 0; i < d; ++i)
          ASSERT_NEAR(out[size_t(t * width() + head * d + i)], sums[size_t(i)] / sums[size_t(d)],
                      (256 + double(position - begin)) * 0x1p-24)
              << "position " << position << " head " << head;
      }
  }

  ModelConfig config_;
};

TEST_P(Attend, EachQuerySeesItsWindow) {
  Sequence sequence(config_, 400, KvCode::kF32, 100);
  expect_softmax(run(sequence, 0, 400, 2, 100), 0, 400);
}

TEST_P(Attend, SpansMayBeSharedByAnyNumberOfThreads) {
  // More spans than fit one turn of two threads: 8 * 2 * 64 rows.
  constexpr int64_t kLong = (8 * 2 * 64 / 3 + 10) * 16 * 64 + 5;
  const int64_t length = GetParam() == AttentionKind::kGlobal ? kLong : 5000;
  Sequence sequence(config_, length + 3, KvCode::kF32, 8);
  write(sequence, std::max<int64_t>(0, GetParam() == AttentionKind::kGlobal ? 0 : length - 100),
        length);
  const std::vector<float> one = run(sequence, length, 3, 1, 3);
  for (const int n_threads : {2, 3, 4})
    EXPECT_EQ(run(sequence, length, 3, n_threads, 3), one) << n_threads << " threads";
  EXPECT_EQ(run(sequence, length, 3, 4, 1), one) << "token by token";
}

TEST_P(Attend, ChunksMayBeCutAnywhere) {
  Sequence sequence(config_, 2300, KvCode::kF32, 300);
  const std::vector<float> whole = run(sequence, 0, 2300, 2, 300);
  expect_softmax(std::vector<float>(whole.end() - 5 * width(), whole.end()), 2295, 5);
  for (const int64_t chunk : {1, 17, 64, 129}) {
    Sequence other(config_, 2300, KvCode::kF32, int(chunk));  // its ring is smaller
    EXPECT_EQ(run(other, 0, 2300, 3, chunk), whole) << "chunks of " << chunk;
  }
}

TEST_P(Attend, SequencesShareAStep) {
  Sequence one(config_, 1200, KvCode::kF32, 100), two(config_, 300, KvCode::kF32, 100);
  const std::vector<float> want_one = run(one, 0, 1200, 1, 100),
                           want_two = run(two, 0, 300, 1, 100);
  write(one, 1100, 1200);
  ThreadPool pool(3);
  PageAttention attention(config_, 100, kernels(), pool);
  std::vector<Row> rows;
  std::vector<float> q = queries(1150, 50), q_two = queries(290, 10), out(size_t(60 * width()));
  q.insert(q.end(), q_two.begin(), q_two.end());
  for (int i = 0; i < 60; ++i)
    rows.push_back({i < 50 ? &one : &two, nullptr, i < 50 ? 1150 + i : 240 + i, 0, i, true});
  attention.run(shape(), rows, q.data(), out.data());
  EXPECT_TRUE(std::equal(out.begin(), out.begin() + 50 * width(), want_one.end() - 50 * width()));
  EXPECT_TRUE(std::equal(out.begin() + 50 * width(), out.end(), want_two.end() - 10 * width()));
}

INSTANTIATE_TEST_SUITE_P(, Attend, testing::Values(AttentionKind::kSliding, AttentionKind::kGlobal),
                         [](const auto& info) {
                           return info.param == AttentionKind::kSliding ? "sliding" : "global";
                         });

}  // namespace
}  // namespace lapidary
