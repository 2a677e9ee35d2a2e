// The AMX product as it is compiled for the hardware, but on modelled tile registers: for tests.
#pragma once

#include "kernels/kernels.h"

namespace lapidary::amx {

// kernels.h, matmul_int8, for codes with scales over 64 inputs and more; false for others.
// REQUIRES: a CPU that runs the avx512 table.
bool matmul_int8_on_model(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                          const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy);

}  // namespace lapidary::amx
