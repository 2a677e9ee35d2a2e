// What AMX adds to the AVX-512 table. Contracts: kernels/kernels.h.
#pragma once

#include "kernels/kernels.h"

namespace lapidary::amx {

// amx_matmul_int8.cpp. REQUIRES: enable() returned true.
void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept;

// amx.cpp: whether this CPU multiplies int8 tiles and the kernel lets this process use them. Asks
// the kernel for it: tile registers are switched off until a process does.
bool enable();

}  // namespace lapidary::amx
