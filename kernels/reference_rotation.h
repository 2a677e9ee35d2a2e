// The two halves of the rotation of 64 values, for the scalar files. Orthonormal and its own
// inverse: x' = H (s * x) / 8 on the way in, x = s * (H x' / 8) on the way back.
//
// Never included by a file compiled for a wider instruction set.
#pragma once

#include "formats/packed_matrix.h"

namespace lapidary::reference {

inline void apply_rotation_signs(float* x) {
  for (int i = 0; i < kTileK; ++i)
    if (kRotationSigns >> i & 1) x[i] = -x[i];
}

// Natural (Hadamard) order, orthonormal.
inline void walsh_hadamard_64(float* x) {
  for (int distance = 1; distance < kTileK; distance *= 2)
    for (int i = 0; i < kTileK; ++i)
      if ((i & distance) == 0) {
        const float a = x[i], b = x[i + distance];
        x[i] = a + b;
        x[i + distance] = a - b;
      }
  for (int i = 0; i < kTileK; ++i) x[i] *= 0.125f;
}

}  // namespace lapidary::reference
