// The one function in which the AVX-VNNI table differs from AVX2's. Contract: kernels/kernels.h.
#pragma once

#include "kernels/kernels.h"

namespace lapidary::avx2vnni {

// avx2vnni_matmul_int8.cpp
void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                 const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) noexcept;

}  // namespace lapidary::avx2vnni
