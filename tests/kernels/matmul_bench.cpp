// How fast the matrix products are, on one thread: each table, code and number of tokens, with the
// weights in cache and in memory.
//
//   matmul_bench --benchmark_filter='avx512/w4/cache/(1|512)$'
//
// Printed with each: GB/s of weight bytes, and its share of the fastest plain reading; GOPS, and
// their share of the fastest int8 (float32 for float activations) arithmetic on registers. Both
// limits are measured at start. As in a run of the model, a call has four panels.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <numeric>
#include <random>

#include "formats/dtype.h"
#include "tests/kernels/peaks.h"

namespace lapidary {
namespace {

constexpr int64_t kWidth = 2048, kPanelsPerCall = 4;
constexpr int64_t kCachedBytes = 512 << 10, kMemoryBytes = 128 << 20;
constexpr int64_t kTokenCounts[] = {1, 2, 3, 4, 8, 16, 32, 64, 128, 512};

double& read_peak() {
  static double gbps = read_peak_gbps();
  return gbps;
}

// Any bytes are weights; only the scales have to be sensible numbers.
struct Weights {
  std::vector<uint64_t> codes, meta;
  MatrixView view;
  int64_t bytes;

  Weights(Code code, int64_t wanted_bytes) {
    const int64_t row_bytes = kWidth * traits(code).bits / 8;
    view.code = code;
    view.k = kWidth;
    view.rows =
        wanted_bytes / row_bytes / (kPanelsPerCall * kPanelRows) * kPanelsPerCall * kPanelRows;
    std::mt19937_64 engine(1);
    if (traits(code).is_float) {
      bytes = view.rows * row_bytes;
      codes.resize(size_t(bytes / 8));
      for (uint64_t& word : codes) word = engine() & 0xbfff'bfff'bfff'bfff;  // exponents below 1
      view.codes = reinterpret_cast<const uint8_t*>(codes.data());
      return;
    }
    const PackedGeometry g = packed_geometry(code, view.rows, view.k);
    bytes = g.code_bytes + g.meta_bytes;
    codes.resize(size_t(g.code_bytes / 8 + 8));
    meta.resize(size_t(g.meta_bytes / 8 + 1));
    for (uint64_t& word : codes) word = engine();
    for (uint64_t& word : meta) word = engine() & 0x3bff'3bff'3bff'3bff;
    view.codes = reinterpret_cast<const uint8_t*>((reinterpret_cast<uintptr_t>(codes.data()) + 63) &
                                                  ~uintptr_t{63});
    view.meta = reinterpret_cast<const uint8_t*>(meta.data());
  }
};

struct Case {
  const KernelTable* table;
  Code code;
  bool cached, int8;
  int64_t n_tokens;
  double peak;
};

void run(benchmark::State& state, const Case& c) {
  const Weights w(c.code, c.cached ? kCachedBytes : kMemoryBytes);
  const int64_t n_scales = kWidth / std::max(traits(c.code).scale_k, 32);
  std::vector<float> x(size_t(c.n_tokens * kWidth), 0.5f), y(size_t(c.n_tokens * w.view.rows));
  std::vector<int8_t> q(x.size());
  std::vector<float> scales(size_t(c.n_tokens * n_scales), 0.01f);
  for (size_t i = 0; i < q.size(); ++i) q[i] = static_cast<int8_t>(i * 37 % 255 - 127);
  std::vector<int32_t> sums;
  for (auto group = q.begin(); group != q.end(); group += kGroupK)
    sums.push_back(std::accumulate(group, group + kGroupK, 0));
  const Int8Activations input{q.data(), scales.data(), sums.data(), kWidth};
  for (auto _ : state) {
    for (int64_t panel = 0; panel < n_panels(w.view); panel += kPanelsPerCall)
      if (c.int8)
        c.table->matmul_int8(w.view, panel, kPanelsPerCall, input, c.n_tokens, y.data(),
                             w.view.rows);
      else
        c.table->matmul_float(w.view, panel, kPanelsPerCall, x.data(), kWidth, c.n_tokens, y.data(),
                              w.view.rows);
    benchmark::ClobberMemory();
  }
  const double passes = double(state.iterations());
  const double gb = double(w.bytes) * passes / 1e9;
  const double gops = 2.0 * double(w.view.rows * kWidth * c.n_tokens) * passes / 1e9;
  const auto rate = benchmark::Counter::kIsRate;
  state.counters["GB/s"] = {gb, rate};
  if (!c.cached) state.counters["of_read"] = {gb / read_peak(), rate};
  state.counters["GOPS"] = {gops, rate};
  state.counters["of_peak"] = {gops / c.peak, rate};
}

void add_cases(const KernelTable& table) {
  const double int8_peak = int8_peak_gops(table.isa), float_peak = float_peak_gflops(table.isa);
  std::printf("%s: int8 %.0f GOPS, float32 %.0f GFLOPS\n", std::string(table.name).c_str(),
              int8_peak, float_peak);
  for (int c = 0; c < kCodeCount; ++c)
    for (const bool cached : {true, false})
      for (const bool int8 : {true, false})
        for (const int64_t n_tokens : kTokenCounts) {
          const Code code = static_cast<Code>(c);
          if (int8 && traits(code).is_float) continue;
          const Case one{&table, code, cached, int8, n_tokens, int8 ? int8_peak : float_peak};
          const std::string name = std::string(table.name) + '/' + std::string(code_name(code)) +
                                   (int8 ? "" : "/float") + (cached ? "/cache/" : "/memory/") +
                                   std::to_string(n_tokens);
          benchmark::RegisterBenchmark(name.c_str(), [one](benchmark::State& s) { run(s, one); });
        }
}

}  // namespace
}  // namespace lapidary

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 64;
  std::printf("read: %.1f GB/s\n", lapidary::read_peak());
  for (const lapidary::KernelTable* table : lapidary::available_kernels())
    if (table->isa != lapidary::Isa::kReference) lapidary::add_cases(*table);
  benchmark::RunSpecifiedBenchmarks();
}
