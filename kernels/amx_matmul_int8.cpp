// kernels/amx_matmul.h on the hardware's tiles, with AVX-512 for everything else. Tested through
// the model of amx_tiles.h; not yet run on a CPU with AMX.
#include "kernels/amx.h"
#include "kernels/amx_lines.h"
#include "kernels/amx_matmul.h"
#include "kernels/avx512.h"

namespace lapidary::amx {
namespace {

// Fewer tokens leave too much of a tile empty.
constexpr int64_t kFewestTokens = 8;

// ModelTiles' operations. The registers are the thread's: one object at a time. Assembly, because
// GCC 12's intrinsics take no template parameters and hide from it that they read and write memory.
struct HardwareTiles {
  explicit HardwareTiles(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config)); }
  ~HardwareTiles() { asm volatile("tilerelease"); }  // idle tiles cost power and context switches
  HardwareTiles(const HardwareTiles&) = delete;
  HardwareTiles& operator=(const HardwareTiles&) = delete;

  template <int kTile>
  void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  template <int kTile>
  void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  void store(void* to, int64_t stride) const {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kC, int kA, int kB>
  void multiply_add() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
  }
};

}  // namespace

void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept {
  if (n_tokens < kFewestTokens ||
      !matmul_int8<HardwareTiles, Avx512Lines>(w, first_panel, n_panels, x, n_tokens, y, ldy))
    avx512::matmul_int8(w, first_panel, n_panels, x, n_tokens, y, ldy);
}

}  // namespace lapidary::amx
