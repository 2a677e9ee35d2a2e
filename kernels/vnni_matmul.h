// y = W x with int8 activations through vpdpbusd, the dot product of four bytes: one algorithm for
// vectors of 32 and 64 bytes. A file compiled for such an instruction set includes this with its
// vector type V (see avx512_matmul_int8.cpp for what V has to offer).
//
// The instruction multiplies unsigned by signed bytes. Weights take the unsigned place, as the
// number level + offset that unpacking gives anyway. The surplus, offset * sum of x, is taken off
// by starting every integer sum at its negative, the sum's `base`. All integers are exact, so both
// ways, vnni_few_tokens.h and vnni_many_tokens.h, give the reference's bits.
#pragma once

#include "kernels/vnni_few_tokens.h"
#include "kernels/vnni_many_tokens.h"

namespace lapidary::vnni {

template <class V, Code C>
static void multiply(const Task& task, int64_t first_panel, int64_t n_panels, int64_t n_tokens) {
  for (int64_t token = 0; token < n_tokens; token += kTileTokens) {
    const int64_t n_here = min(kTileTokens, n_tokens - token);
    if (n_here <= kFewTokens)
      multiply_few_tokens<V, C>(task, first_panel, n_panels, token, n_here);
    else
      multiply_many_tokens<V, C>(task, first_panel, n_panels, token, n_here);
  }
}

// kernels.h, matmul_int8.
template <class V>
static void matmul_int8(const MatrixView& w, int64_t first_panel, int64_t n_panels,
                        const Int8Activations& x, int64_t n_tokens, float* y, int64_t ldy) {
  if (traits(w.code).is_float) return;  // float codes have no int8 product
  const Task task{w, packed_geometry(w.code, w.rows, w.k), x, y, ldy};
  switch (w.code) {
    case Code::kW8:
      return multiply<V, Code::kW8>(task, first_panel, n_panels, n_tokens);
    case Code::kW6:
      return multiply<V, Code::kW6>(task, first_panel, n_panels, n_tokens);
    case Code::kW5:
      return multiply<V, Code::kW5>(task, first_panel, n_panels, n_tokens);
    case Code::kW4:
      return multiply<V, Code::kW4>(task, first_panel, n_panels, n_tokens);
    case Code::kW3:
      return multiply<V, Code::kW3>(task, first_panel, n_panels, n_tokens);
    case Code::kW4x:
      return multiply<V, Code::kW4x>(task, first_panel, n_panels, n_tokens);
    case Code::kW8x:
      return multiply<V, Code::kW8x>(task, first_panel, n_panels, n_tokens);
    case Code::kT3:
      return multiply<V, Code::kT3>(task, first_panel, n_panels, n_tokens);
    case Code::kT4:
      return multiply<V, Code::kT4>(task, first_panel, n_panels, n_tokens);
    case Code::kT5:
      return multiply<V, Code::kT5>(task, first_panel, n_panels, n_tokens);
    case Code::kT6:
      return multiply<V, Code::kT6>(task, first_panel, n_panels, n_tokens);
    default:
      return;
  }
}

}  // namespace lapidary::vnni
