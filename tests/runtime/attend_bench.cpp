// How fast attention over a bf16 cache is, on each table and number of threads.
//
//   attend_bench --benchmark_filter='avx512/.*/threads:1'
//
// decode: one query token at a depth, on caches of many layers in turn so that each is read from
// memory. prompt: chunks of 256 tokens until the length stands. Printed with each: GB/s of the K
// and V bytes that the queries see, and the share of the fastest plain reading of one thread, times
// threads; GFLOPS of the visible products, and the share of multiply-adds on registers. Both limits
// are measured at start.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>

#include "runtime/attend.h"
#include "tests/kernels/peaks.h"

namespace lapidary {
namespace {

constexpr int kChunk = 256;
constexpr int64_t kMemoryBytes = 128 << 20;  // of caches: beyond the last level's cache

double& read_peak() {
  static double gbps = read_peak_gbps();
  return gbps;
}

struct Shape {
  std::string_view name;
  int n_heads, n_kv_heads, head_dim, window;  // window 0: global
};
constexpr Shape kShapes[] = {{"e2b_global", 8, 1, 512, 0}, {"e2b_sliding", 8, 1, 256, 512},
                             {"e4b_global", 8, 2, 512, 0}, {"26b_sliding", 16, 8, 256, 1024},
                             {"llama_1b", 32, 8, 64, 0},   {"one_group_128", 8, 8, 128, 0}};

struct Case {
  const KernelTable* table;
  Shape shape;
  int64_t first, n;  // queries at [first, first + n)
  int n_threads;
  double float_peak;
};

void run(benchmark::State& state, const Case& c) {
  ModelConfig config;
  LayerConfig layer;
  layer.attention = c.shape.window ? AttentionKind::kSliding : AttentionKind::kGlobal;
  layer.window = c.shape.window;
  layer.n_heads = c.shape.n_heads;
  layer.n_kv_heads = c.shape.n_kv_heads;
  layer.head_dim = c.shape.head_dim;
  const int64_t seen =
      c.shape.window ? std::min<int64_t>(c.first + 1, c.shape.window) : c.first + 1;
  const int64_t token_bytes = int64_t{4} * layer.n_kv_heads * layer.head_dim;
  const int64_t n_layers = c.n == 1 ? std::max<int64_t>(1, kMemoryBytes / (seen * token_bytes)) : 1;
  for (int64_t l = 0; l < n_layers; ++l) {
    layer.kv_source = int(l);
    config.layers.push_back(layer);
  }
  Sequence sequence(config, c.first + c.n, KvCode::kBF16, kChunk);
  for (int64_t l = 0; l < n_layers; ++l)
    for (int64_t p = 0; p<c.first + c.n; p += c.first + c.n - p> kChunk + seen ? kPageTokens : 1)
      for (int head = 0; head < layer.n_kv_heads; ++head) {
        const Sequence::Slot slot = sequence.slot(int(l), p, head);
        for (int i = 0; i < layer.head_dim; ++i)
          for (void* side : {slot.keys, slot.values})  // +-0.01, and both
            static_cast<uint16_t*>(side)[i] = uint16_t(0x3c23 | ((p * 7 + i * 3) << 13));
      }
  const int64_t width = int64_t{layer.n_heads} * layer.head_dim;
  std::vector<float> q(size_t(c.n * width), 0.5f), out(q.size());
  std::vector<Row> rows;
  for (int64_t t = 0; t < c.n; ++t)
    rows.push_back({&sequence, nullptr, c.first + t, 0, int32_t(t), true});
  ThreadPool pool(c.n_threads);
  PageAttention attention(config, kChunk, *c.table, pool);
  size_t l = 0;
  for (auto _ : state) {
    for (int64_t t = 0; t < c.n; t += kChunk)
      attention.run(config.layers[l],
                    std::span(rows).subspan(size_t(t), size_t(std::min<int64_t>(kChunk, c.n - t))),
                    q.data() + t * width, out.data() + t * width);
    l = (l + 1) % size_t(n_layers);
    benchmark::ClobberMemory();
  }
  double keys = 0;
  for (int64_t t = 0; t < c.n; ++t)
    keys += double(c.shape.window ? std::min<int64_t>(c.first + t + 1, c.shape.window)
                                  : c.first + t + 1);
  const double passes = double(state.iterations());
  const double gflop = 4.0 * keys * double(width) * passes / 1e9;
  const auto rate = benchmark::Counter::kIsRate;
  if (c.n == 1) {
    const double gb = double(seen * token_bytes) * passes / 1e9;
    state.counters["GB/s"] = {gb, rate};
    state.counters["of_read"] = {gb / read_peak() / c.n_threads, rate};
  }
  state.counters["GFLOPS"] = {gflop, rate};
  state.counters["of_peak"] = {gflop / c.float_peak / c.n_threads, rate};
}

void add_cases(const KernelTable& table) {
  const double peak = float_peak_gflops(table.isa);
  std::printf("%s: float32 %.0f GFLOPS\n", std::string(table.name).c_str(), peak);
  for (const Shape& shape : kShapes)
    for (const int64_t length : {512, 2048, 32768, 131072})
      for (const bool decode : {true, false})
        for (const int n_threads : {1, 2, 4}) {
          if (shape.window && length > 2048) continue;
          // A prompt's last chunk, where it is long.
          const int64_t n = decode ? 1 : length > 2048 ? kChunk : length;
          const Case one{&table, shape, length - n, n, n_threads, peak};
          const std::string name = std::string(table.name) + '/' + std::string(shape.name) +
                                   (decode ? "/decode/" : "/prompt/") + std::to_string(length) +
                                   "/threads:" + std::to_string(n_threads);
          benchmark::RegisterBenchmark(name.c_str(), [one](benchmark::State& s) { run(s, one); })
              ->UseRealTime()
              ->Unit(benchmark::kMicrosecond);
        }
}

}  // namespace
}  // namespace lapidary

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 64;
  std::printf("read: %.1f GB/s\n", lapidary::read_peak());
  for (const lapidary::KernelTable* table : lapidary::available_kernels())
    if (table->isa == lapidary::Isa::kAvx2 || table->isa == lapidary::Isa::kAvx512)
      lapidary::add_cases(*table);
  benchmark::RunSpecifiedBenchmarks();
}
