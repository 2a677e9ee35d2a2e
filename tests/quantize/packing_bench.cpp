// How fast weights are rounded and packed, on one thread: each code, as panels and as a row table,
// from bf16 rows in the cache, rotation and all.
//
//   packing_bench --benchmark_filter='panels/w4'
//
// Printed with each: MB/s of bf16 read. LAPIDARY_ISA chooses another table than the widest.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <random>

#include "formats/dtype.h"
#include "kernels/kernels.h"
#include "quantize/pack_rows.h"

namespace lapidary {
namespace {

constexpr int64_t kWidth = 2048, kRecordWidth = 256;
constexpr Code kPackedCodes[] = {Code::kW8, Code::kW6,  Code::kW5, Code::kW4,
                                 Code::kW3, Code::kW4x, Code::kW8x};

std::vector<uint16_t> random_rows() {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<uint16_t> values(kPanelRows * kWidth);
  for (uint16_t& value : values) value = float_to_bf16(normal(engine));
  return values;
}

void count(benchmark::State& state, int64_t weights) {
  state.counters["MB/s"] = benchmark::Counter(2e-6 * static_cast<double>(weights),
                                              benchmark::Counter::kIsIterationInvariantRate);
}

void panels(benchmark::State& state, Code code) {
  const std::vector<uint16_t> values = random_rows();
  const FloatRows rows{Code::kBF16, reinterpret_cast<const uint8_t*>(values.data()), kWidth};
  const PackedGeometry g = packed_geometry(code, kPanelRows, kWidth);
  std::vector<uint8_t> codes(static_cast<size_t>(g.panel_code_bytes));
  std::vector<uint8_t> meta(static_cast<size_t>(g.panel_meta_bytes));
  const bool rotated = traits(code).scale_k != kGroupK;
  for (auto _ : state)
    benchmark::DoNotOptimize(pack_panel_rows(g, rotated, rows, 0, kPanelRows, codes, meta));
  count(state, kPanelRows * kWidth);
}

void records(benchmark::State& state, Code code) {
  const std::vector<uint16_t> values = random_rows();
  const FloatRows rows{Code::kBF16, reinterpret_cast<const uint8_t*>(values.data()), kRecordWidth};
  const RowTableGeometry g = row_table_geometry(code, kPanelRows, 1, kRecordWidth);
  std::vector<uint8_t> out(static_cast<size_t>(g.bytes));
  for (auto _ : state) benchmark::DoNotOptimize(pack_table_records(g, rows, 0, kPanelRows, out));
  count(state, kPanelRows * kRecordWidth);
}

void add_all() {
  for (const Code code : kPackedCodes) {
    const std::string name(code_name(code));
    benchmark::RegisterBenchmark(("panels/" + name).c_str(), panels, code);
    benchmark::RegisterBenchmark(("records/" + name).c_str(), records, code);
  }
}

}  // namespace
}  // namespace lapidary

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  fmt::print("table: {}\n", lapidary::kernels().name);
  lapidary::add_all();
  benchmark::RunSpecifiedBenchmarks();
}
