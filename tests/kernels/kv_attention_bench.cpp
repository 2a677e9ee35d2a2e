// How fast attention reads a cache, on one thread: each table and cache code, a token's 8 query
// heads on one K/V head of 512 (Gemma 4 E2B's global layers), 32,768 tokens deep (and 1,024, which
// stay in the caches); and a prompt's tile of 16 tokens.
//
//   kv_attention_bench --benchmark_filter='avx512/.*/32768/1$'
//
// Printed with each: the GB/s of cached bytes. Time per call is what to compare between codes.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <random>

#include "formats/dtype.h"
#include "kernels/kv_pages.h"

namespace lapidary {
namespace {

constexpr int kHeadDim = 512, kGroup = 8, kRotary = 128;

struct CacheCode {
  const char* name;
  KvCode keys, values;
  bool shared;
};
constexpr CacheCode kCaches[] = {
    {"off", KvCode::kBF16, KvCode::kBF16, false},  {"k8v8", KvCode::kInt8, KvCode::kInt8, false},
    {"k4v4", KvCode::k4Bit, KvCode::k4Bit, false}, {"k3v3", KvCode::k3Bit, KvCode::k3Bit, false},
    {"v8", KvCode::kInt8, KvCode::kInt8, true},    {"v5", KvCode::k5Bit, KvCode::k5Bit, true}};

// One side of all pages. The first page is packed from Gaussian rows, the others are its copies: in
// memory of their own, which is what counts.
struct Side {
  KvPageGeometry geometry;
  int64_t page_bytes = kPageTokens * kHeadDim * 2;
  std::vector<uint64_t> memory;
  uint8_t* data;

  Side(const KernelTable& table, KvRole role, KvCode code, int n_pages) {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    std::vector<uint16_t> rows(kPageTokens * kHeadDim);
    for (uint16_t& row : rows) row = float_to_bf16(normal(engine));
    std::vector<uint8_t> page(size_t(page_bytes), 0);
    if (is_packed(code)) {
      geometry = kv_page_geometry(role, code, kHeadDim, role == KvRole::kBoth ? kRotary : 0);
      page_bytes = geometry.bytes;
      pack_kv_page(table, geometry, rows.data(), kHeadDim, page.data());
    } else {
      std::memcpy(page.data(), rows.data(), page.size());
    }
    memory.resize(size_t(page_bytes * n_pages / 8 + 8));
    data = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) &
                                      ~uintptr_t{63});
    for (int p = 0; p < n_pages; ++p)
      std::memcpy(data + p * page_bytes, page.data(), size_t(page_bytes));
  }
};

void attend(benchmark::State& bench, const KernelTable& table, const CacheCode& code, int depth,
            int n_tokens) {
  const int n_pages = depth / kPageTokens, n_rows = n_tokens * kGroup;
  const Side values(table, code.shared ? KvRole::kBoth : KvRole::kValues, code.values, n_pages);
  const Side keys(table, KvRole::kKeys, code.keys, code.shared ? 1 : n_pages);
  std::mt19937 engine(2);
  std::normal_distribution<float> normal(0, 1 / std::sqrt(float(kHeadDim)));
  std::vector<float> q(size_t(n_rows * kHeadDim)), out(q.size()), max(size_t(n_rows), -INFINITY),
      sum(static_cast<size_t>(n_rows), 0.0f), weights(kRotary, 1.0f), angles(kRotary, 0.7f),
      steps(kRotary / 2 * kPageTokens, 0.7f);
  for (float& x : q) x = normal(engine);
  const std::vector<uint8_t> begin(size_t(n_tokens), 0), end(size_t(n_tokens), kPageTokens);
  const RotaryKeys rotary{kRotary, weights.data(), steps.data(), steps.data()};
  AttentionTile tile{q.data(),     kGroup * kHeadDim, n_tokens, kGroup, kHeadDim,
                     begin.data(), end.data(),        nullptr,  &rotary};
  const KvPageGeometry& packed = code.shared ? values.geometry : keys.geometry;
  std::vector<uint8_t> packed_q;
  for (auto _ : bench) {
    if (is_packed(code.keys)) {
      packed_q.resize(size_t(n_rows * packed_query_bytes(packed)));
      pack_queries(table, packed, tile, packed_q.data());
      tile.packed_q = packed_q.data();
    }
    for (int p = 0; p < n_pages; ++p) {
      const bool is_float = !is_packed(code.keys);
      KvPage page{{code.keys, keys.data + (code.shared ? 0 : p * keys.page_bytes), kHeadDim,
                   is_float ? nullptr : &keys.geometry},
                  {code.values, values.data + p * values.page_bytes, kHeadDim,
                   is_float ? nullptr : &values.geometry}};
      if (code.shared) page.start_angles = angles.data();
      table.attend_page(page, tile, {max.data(), sum.data(), out.data()});
    }
    benchmark::DoNotOptimize(out.data());
  }
  const int64_t bytes = n_pages * (values.page_bytes + (code.shared ? 0 : keys.page_bytes));
  bench.SetBytesProcessed(bench.iterations() * bytes);
}

}  // namespace
}  // namespace lapidary

int main(int argc, char** argv) {
  using namespace lapidary;
  for (const KernelTable* table : available_kernels()) {
    if (table->isa == Isa::kReference) continue;
    for (const CacheCode& code : kCaches)
      for (const int depth : {1024, 32768})
        for (const int n_tokens : {1, 16})
          benchmark::RegisterBenchmark(
              (std::string(table->name) + "/" + code.name + "/" + std::to_string(depth) + "/" +
               std::to_string(n_tokens))
                  .c_str(),
              [=](benchmark::State& bench) { attend(bench, *table, code, depth, n_tokens); })
              ->Unit(benchmark::kMicrosecond);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
