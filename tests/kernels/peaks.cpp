// The machine's roofs come from kernels/machine_probe, on one thread; float32, which no kernel of
// the products needs a roof for, is measured here. Twelve independent accumulators hide the latency
// of four to five cycles at two a cycle; assembly, so that no compiler finds out that the sums are
// wanted by nobody.
#include "tests/kernels/peaks.h"

#include <algorithm>
#include <ctime>

#include "kernels/machine_probe.h"

namespace lapidary {
namespace {

constexpr int kPasses = 10;  // any may be disturbed: the best counts

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
#define LAPIDARY_FMA512(n) "vfmadd231ps %%zmm13, %%zmm12, %%zmm" #n "\n"
#define LAPIDARY_FMA256(n) "vfmadd231ps %%ymm13, %%ymm12, %%ymm" #n "\n"

LAPIDARY_LOOP(fma512, "avx512f", LAPIDARY_FMA512)
LAPIDARY_LOOP(fma256, "fma", LAPIDARY_FMA256)

// Of this thread's own time, which other programs on the machine disturb least.
double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

// 12 instructions of `lanes` products each, in 1e9 operations per second.
double rate(void (*loop)(), int lanes) {
  double best = 0;
  for (int i = 0; i < kPasses; ++i) {
    const double start = cpu_seconds();
    loop();
    best = std::max(best, 2.0 * 12 * lanes * kRounds / (cpu_seconds() - start));
  }
  return best / 1e9;
}

#endif

template <class Pass>
double best_of(Pass pass) {
  double best = 0;
  for (int i = 0; i < kPasses; ++i) best = std::max(best, pass());
  return best;
}

}  // namespace

double int8_peak_gops(Isa isa) {
  if (isa == Isa::kReference) return 0;
  MachineProbe probe(1);
  return 1e3 * best_of([&] { return probe.int8_tops(isa); });
}

double float_peak_gflops([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return rate(fma512, 16);
  if (isa >= Isa::kAvx2) return rate(fma256, 8);
#endif
  return 0;
}

double read_peak_gbps() {
  MachineProbe probe(1);
  return best_of([&] { return probe.read_gbps(); });
}

}  // namespace lapidary
