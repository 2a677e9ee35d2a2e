// The loops are inline assembly: nothing a compiler could drop or spill, and no instruction set
// needs a file of its own.
#include "kernels/machine_probe.h"

#include <sys/mman.h>

#include <array>
#include <chrono>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "formats/error.h"
#include "kernels/amx_tiles.h"

namespace lapidary {
namespace {

// Last-level caches serve one core with 32 to 96 MiB.
constexpr int64_t kBufferBytes = int64_t{512} << 20;
// One work item: long beside handing it over, short beside a pass.
constexpr int64_t kItemBytes = int64_t{8} << 20;
constexpr int64_t kFetchAhead = 2048;  // bytes; measured best of 0, 512, 2048 on Zen 5

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void* map_buffer() {
  void* p = mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    fail(ErrorCode::kOutOfMemory, "no {} MiB for measuring the memory's speed", kBufferBytes >> 20);
  madvise(p, kBufferBytes, MADV_HUGEPAGE);  // the machine's limit, not that of its page tables
  return p;
}

#if defined(__x86_64__)

// Two streams: what the prefetchers of all cores met so far follow; more collide in cache sets.
void read_item(const uint8_t* first) {
  const uint8_t* second = first + kItemBytes / 2;
  for (int64_t i = 0; i < kItemBytes / 2; i += 64)
    for (const uint8_t* line : {first + i, second + i}) {
      __builtin_prefetch(line + kFetchAhead);
      asm volatile(
          "movdqa (%0), %%xmm0\n\t"
          "movdqa 16(%0), %%xmm1\n\t"
          "movdqa 32(%0), %%xmm2\n\t"
          "movdqa 48(%0), %%xmm3"
          :
          : "r"(line)
          : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
    }
}

alignas(64) constexpr auto kOperand = [] {
  std::array<uint8_t, 64> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(37 * i + 11);
  return bytes;
}();

// Each multiplies `rounds` times into 12 sums (registers 0 to 11) from registers 12 and 13: a
// latency of 4 to 5 cycles at two per cycle needs 10.
void multiply_sse2(int64_t rounds) {
  asm volatile(
      "movdqa (%1), %%xmm12\n\t"
      "1:\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
      "pmaddwd %%xmm12, %%xmm\\r\n\t"
      ".endr\n\t"
      "sub $1, %0\n\t"
      "jnz 1b"
      : "+r"(rounds)
      : "r"(kOperand.data())
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "cc", "memory");
}

void multiply_avx2(int64_t rounds) {
  asm volatile(
      "vmovdqa (%1), %%ymm12\n\t"
      "vmovdqa 32(%1), %%ymm13\n\t"
      "1:\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
      "vpmaddubsw %%ymm13, %%ymm12, %%ymm\\r\n\t"
      ".endr\n\t"
      "sub $1, %0\n\t"
      "jnz 1b\n\t"
      "vzeroupper"
      : "+r"(rounds)
      : "r"(kOperand.data())
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "cc", "memory");
}

void multiply_avx2vnni(int64_t rounds) {
  asm volatile(
      "vmovdqa (%1), %%ymm12\n\t"
      "vmovdqa 32(%1), %%ymm13\n\t"
      "1:\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
      "%{vex%} vpdpbusd %%ymm13, %%ymm12, %%ymm\\r\n\t"
      ".endr\n\t"
      "sub $1, %0\n\t"
      "jnz 1b\n\t"
      "vzeroupper"
      : "+r"(rounds)
      : "r"(kOperand.data())
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "cc", "memory");
}

void multiply_avx512(int64_t rounds) {
  asm volatile(
      "vmovdqa64 (%1), %%zmm12\n\t"
      "vmovdqa64 (%1), %%zmm13\n\t"
      "1:\n\t"
      ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t"
      "vpdpbusd %%zmm13, %%zmm12, %%zmm\\r\n\t"
      ".endr\n\t"
      "sub $1, %0\n\t"
      "jnz 1b\n\t"
      "vzeroupper"
      : "+r"(rounds)
      : "r"(kOperand.data())
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "cc", "memory");
}

// Four sums of 16 x 16 tiles, 64 products to each element: one multiplication takes 16 cycles and
// its result some 50.
void multiply_amx(int64_t rounds) {
  const amx::TileConfig config = amx::whole_tiles();
  alignas(64) uint8_t tile[amx::kRegisterRows * amx::kRegisterBytes];
  for (size_t i = 0; i < sizeof tile; ++i) tile[i] = kOperand[i % kOperand.size()];
  asm volatile(
      "ldtilecfg %1\n\t"
      "tileloadd (%2, %3, 1), %%tmm4\n\t"
      "tileloadd (%2, %3, 1), %%tmm5\n\t"
      "1:\n\t"
      ".irp r,0,1,2,3\n\t"
      "tdpbssd %%tmm5, %%tmm4, %%tmm\\r\n\t"
      ".endr\n\t"
      "sub $1, %0\n\t"
      "jnz 1b\n\t"
      "tilerelease"
      : "+r"(rounds)
      : "m"(config), "r"(tile), "r"(int64_t{amx::kRegisterBytes})
      : "cc", "memory");
}

struct Multiplier {
  void (*run)(int64_t rounds);
  int64_t multiply_adds;  // of one round
};

Multiplier multiplier(Isa isa) {
  constexpr int64_t kSums = 12;
  switch (isa) {
    case Isa::kReference:
      return {multiply_sse2, kSums * 8};  // 16-bit pairs: the baseline has nothing for 8 bits
    case Isa::kAvx2:
      return {multiply_avx2, kSums * 32};
    case Isa::kAvx2Vnni:
      return {multiply_avx2vnni, kSums * 32};
    case Isa::kAvx512:
      return {multiply_avx512, kSums * 64};
    case Isa::kAmx:
      return {multiply_amx, int64_t{4} * 16 * 16 * 64};
  }
  return {nullptr, 0};
}

#else

void read_item(const uint8_t* first) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < kItemBytes; i += sizeof sum) {
    uint64_t word;
    std::memcpy(&word, first + i, sizeof word);
    sum += word;
  }
  asm volatile("" : : "r"(sum));
}

struct Multiplier {
  void (*run)(int64_t rounds);
  int64_t multiply_adds;
};
Multiplier multiplier(Isa) { return {nullptr, 0}; }

#endif

}  // namespace

void MachineProbe::Unmap::operator()(void* p) const { munmap(p, kBufferBytes); }

MachineProbe::MachineProbe(int n_threads) : buffer_(map_buffer()), pool_(n_threads) {
  // Written, so that each page is memory of its own, on the node of a thread that will read.
  pool_.run(kBufferBytes / kItemBytes, [&](int64_t i) {
    std::memset(static_cast<uint8_t*>(buffer_.get()) + i * kItemBytes, 1, kItemBytes);
  });
}

MachineProbe::~MachineProbe() = default;

int MachineProbe::n_threads() const { return pool_.n_threads(); }

double MachineProbe::read_gbps() {
  const auto start = std::chrono::steady_clock::now();
  pool_.run(kBufferBytes / kItemBytes, [&](int64_t i) {
    read_item(static_cast<const uint8_t*>(buffer_.get()) + i * kItemBytes);
  });
  return static_cast<double>(kBufferBytes) / seconds_since(start) / 1e9;
}

double MachineProbe::int8_tops(Isa isa) {
  constexpr int64_t kRounds = 100000;  // half a millisecond at 2.5 multiplications per ns
  const Multiplier m = multiplier(isa);
  if (!m.run) return 0;
  const int64_t n_items = int64_t{16} * pool_.n_threads();
  const auto start = std::chrono::steady_clock::now();
  pool_.run(n_items, [&](int64_t) { m.run(kRounds); });
  return 2.0 * static_cast<double>(n_items * kRounds * m.multiply_adds) / seconds_since(start) /
         1e12;
}

std::string cpu_name() {
#if defined(__x86_64__)
  std::array<uint32_t, 12> words{};
  for (uint32_t i = 0; i < 3; ++i)
    if (!__get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                     &words[4 * i + 3]))
      return "unknown";
  std::array<char, sizeof words + 1> text{};
  std::memcpy(text.data(), words.data(), sizeof words);
  std::string name(text.data());
  name.erase(0, name.find_first_not_of(' '));
  name.erase(name.find_last_not_of(' ') + 1);
  return name.empty() ? "unknown" : name;
#else
  return "unknown";
#endif
}

}  // namespace lapidary
