// Chooses the kernel table: the widest instruction set that the CPU has, capped by LAPIDARY_ISA.
#include <array>
#include <cstdlib>

#include "formats/error.h"
#if defined(LAPIDARY_X86)
#include "kernels/amx.h"
#endif
#include "kernels/tables.h"

namespace lapidary {
namespace {

struct IsaName {
  std::string_view name;
  Isa isa;
};
constexpr std::array<IsaName, 5> kIsaNames{{{"reference", Isa::kReference},
                                            {"avx2", Isa::kAvx2},
                                            {"avx2vnni", Isa::kAvx2Vnni},
                                            {"avx512", Isa::kAvx512},
                                            {"amx", Isa::kAmx}}};

Isa parse_isa(std::string_view name) {
  for (const IsaName& known : kIsaNames)
    if (known.name == name) return known.isa;
  fail(ErrorCode::kUsage,
       "LAPIDARY_ISA: '{}' is not an instruction set; expected reference, avx2, avx2vnni, avx512 "
       "or amx",
       name);
}

}  // namespace

// Ascending by Isa.
std::vector<const KernelTable*> available_kernels() {
  std::vector<const KernelTable*> tables{&kReferenceKernels};
#if defined(LAPIDARY_X86)
  // The compiler's function asks the operating system too, whether it saves the wide registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (avx2) tables.push_back(&kAvx2Kernels);
  if (avx2 && __builtin_cpu_supports("avxvnni")) tables.push_back(&kAvx2VnniKernels);
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
                      __builtin_cpu_supports("avx512vbmi");
  if (avx512) tables.push_back(&kAvx512Kernels);
  if (avx512 && amx::enable()) tables.push_back(&amx_kernels());
#endif
  return tables;
}

const KernelTable& kernels_up_to(std::string_view cap) {
  const Isa widest = parse_isa(cap);
  const KernelTable* best = &kReferenceKernels;
  for (const KernelTable* table : available_kernels())
    if (table->isa <= widest) best = table;
  return *best;
}

const KernelTable& kernels() {
  static const KernelTable& chosen = []() -> const KernelTable& {
    const char* cap = std::getenv("LAPIDARY_ISA");
    return kernels_up_to(cap && *cap ? cap : "amx");
  }();
  return chosen;
}

}  // namespace lapidary
