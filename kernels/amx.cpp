// The table for CPUs with AMX int8 (Sapphire Rapids and later): AVX-512's, with prompts in tiles.
#include "kernels/amx.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/tables.h"

namespace lapidary {

const KernelTable& amx_kernels() {
  static const KernelTable table = [] {
    KernelTable t = kAvx512Kernels;
    t.isa = Isa::kAmx;
    t.name = "amx";
    t.matmul_int8 = amx::matmul_int8;
    return t;
  }();
  return table;
}

bool amx::enable() {
  if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-int8")) return false;
  // Linux, Documentation/arch/x86/xstate.rst.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace lapidary
