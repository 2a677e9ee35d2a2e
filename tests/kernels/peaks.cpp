// Twelve independent accumulators hide the latency of every instruction measured here (4 to 5
// cycles, two a cycle). Assembly, so that no compiler finds out that the sums are wanted by nobody.
#include "tests/kernels/peaks.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lapidary {
namespace {

// Of this thread's own time, which other programs on the machine disturb least.
double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

// Units per second of `run`, which does `units` of them: the best of ten.
template <class Run>
double best_rate(double units, Run run) {
  double best = 0;
  for (int i = 0; i < 10; ++i) {
    const double start = cpu_seconds();
    run();
    best = std::max(best, units / (cpu_seconds() - start));
  }
  return best;
}

#if defined(__x86_64__)

constexpr int64_t kRounds = 1'000'000;

#define LAPIDARY_TWELVE(line) \
  line(0) line(1) line(2) line(3) line(4) line(5) line(6) line(7) line(8) line(9) line(10) line(11)
#define LAPIDARY_LOOP(name, target_list, line)                                                   \
  __attribute__((target(target_list))) void name() {                                             \
    for (int64_t i = 0; i < kRounds; ++i)                                                        \
      asm volatile(LAPIDARY_TWELVE(line)::                                                       \
                       : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
                         "xmm9", "xmm10", "xmm11");                                              \
  }
#define LAPIDARY_VNNI512(n) "vpdpbusd %%zmm13, %%zmm12, %%zmm" #n "\n"
#define LAPIDARY_VNNI256(n) "%{vex%} vpdpbusd %%ymm13, %%ymm12, %%ymm" #n "\n"
#define LAPIDARY_MADDUBS(n) "vpmaddubsw %%ymm13, %%ymm12, %%ymm" #n "\n"
#define LAPIDARY_FMA512(n) "vfmadd231ps %%zmm13, %%zmm12, %%zmm" #n "\n"
#define LAPIDARY_FMA256(n) "vfmadd231ps %%ymm13, %%ymm12, %%ymm" #n "\n"

LAPIDARY_LOOP(vnni512, "avx512vnni", LAPIDARY_VNNI512)
LAPIDARY_LOOP(vnni256, "avxvnni", LAPIDARY_VNNI256)
LAPIDARY_LOOP(maddubs, "avx2", LAPIDARY_MADDUBS)
LAPIDARY_LOOP(fma512, "avx512f", LAPIDARY_FMA512)
LAPIDARY_LOOP(fma256, "fma", LAPIDARY_FMA256)

// 12 instructions of `lanes` products each.
double rate(void (*loop)(), int lanes) { return best_rate(2.0 * 12 * lanes * kRounds, loop) / 1e9; }

// Four streams, and every line fetched 4 KiB ahead: the fastest of what was tried.
__attribute__((target("avx2"))) uint8_t read_all(const uint8_t* p, int64_t n) {
  constexpr int64_t kStreams = 4, kAhead = 4096;
  __m256i sums[kStreams][2] = {};
  for (int64_t i = 0; i < n / kStreams; i += 64)
#pragma GCC unroll 4
    for (int64_t s = 0; s < kStreams; ++s) {
      const uint8_t* line = p + s * (n / kStreams) + i;
      _mm_prefetch(reinterpret_cast<const char*>(line + kAhead), _MM_HINT_T0);
      for (int half = 0; half < 2; ++half)
        sums[s][half] = _mm256_xor_si256(
            sums[s][half], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line) + half));
    }
  uint8_t all[sizeof sums], out = 0;
  std::memcpy(all, sums, sizeof sums);
  for (const uint8_t byte : all) out = static_cast<uint8_t>(out ^ byte);
  return out;
}

#else

uint8_t read_all(const uint8_t* p, int64_t n) {
  uint64_t sum = 0, word;
  for (int64_t i = 0; i < n; i += 8) {
    std::memcpy(&word, p + i, sizeof word);
    sum ^= word;
  }
  return static_cast<uint8_t>(sum);
}

#endif

}  // namespace

double int8_peak_gops([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return rate(vnni512, 64);
  if (isa == Isa::kAvx2Vnni) return rate(vnni256, 32);
  if (isa == Isa::kAvx2) return rate(maddubs, 32);
#endif
  return 0;
}

double float_peak_gflops([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return rate(fma512, 16);
  if (isa >= Isa::kAvx2) return rate(fma256, 8);
#endif
  return 0;
}

double read_peak_gbps() {
  constexpr int64_t kBytes = int64_t{256} << 20;
  const std::vector<uint8_t> bytes(kBytes, 1);
  volatile uint8_t sink = 0;
  return best_rate(double(kBytes), [&] { sink = sink + read_all(bytes.data(), kBytes); }) / 1e9;
}

}  // namespace lapidary
