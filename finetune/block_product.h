// Dense products inside one thread, in float32 or with operands rounded to bfloat16.
//
// LibTorch's own matrix product takes another library's slow path on some processors; its
// block kernels (oneDNN's "brgemm", compiled at run time for the machine) do not, and they add
// bfloat16 products in float32. They want the right operand in blocks of 64 columns, bfloat16 ones
// with two consecutive rows interleaved. Every output is one sum in ascending k, whatever the
// number of rows beside it. Where the kernels do not run, at::mm does the same in float32.
#pragma once

#include <cstdint>

namespace lapidary {

enum class Precision { kFloat32, kBFloat16 };

// What this machine computes fastest: bfloat16 where it has instructions for it. Elsewhere bfloat16
// cannot be computed at all unless has_bfloat16_kernels().
Precision native_precision();
bool has_bfloat16_kernels();

inline constexpr int64_t kBlockColumns = 64;  // of a packed right operand
inline constexpr int64_t kBlockRows = 64;     // of a left operand under one call
inline constexpr int64_t kRowMultiple = 16;   // left operands are padded to this many rows

inline int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
inline int64_t element_bytes(Precision p) { return p == Precision::kBFloat16 ? 2 : 4; }
// Of a right operand [k, n].
inline int64_t packed_bytes(Precision p, int64_t k, int64_t n) {
  return round_up(k, 2) * round_up(n, kBlockColumns) * element_bytes(p);
}

// Left operand: `count` floats. Right operand B [k, n], `packed` all of it: pack_columns takes up
// to 16 of its columns, given as rows [n_columns, ld] of their first `given` values, first_column a
// multiple of 16; pack_rows takes rows of B [n_rows, ld], first_row even. An odd number of values
// or rows is completed by zeros; nothing else is.
void pack_left(Precision p, const float* values, int64_t count, void* packed);
void pack_columns(Precision p, const float* columns, int64_t ld, int64_t n_columns, int64_t given,
                  int64_t k, int64_t first_column, void* packed);
void pack_rows(Precision p, const float* rows, int64_t ld, int64_t n_rows, int64_t n, int64_t k,
               int64_t first_row, void* packed);

// c [n_rows, ldc], columns [first_column, first_column + n_columns) (+)= a [n_rows, lda] B.
// REQUIRES: n_rows a multiple of 16, first_column of 64; in bfloat16 `a` holds round_up(k, 2)
// values.
struct BlockCall {
  Precision precision;
  int64_t k;
  const void* a;
  int64_t lda;
  const void* packed;
  float* c;
  int64_t ldc;
  bool add;
};
void multiply_blocks(const BlockCall& call, int64_t n_rows, int64_t first_column,
                     int64_t n_columns);
// Call when a thread is done with a piece of work: some machines keep state for the kernels.
void release_blocks(Precision p);

// c [m, n] (+)= a [m, k] b [k, n] of any size, everything float32. Packs both operands itself;
// scratch belongs to the thread.
struct Operand {
  const float* data;
  int64_t ld;
  bool transposed = false;  // a: given as [k, m]; b: given as [n, k]
};
void block_product(Precision p, int64_t m, int64_t n, int64_t k, const Operand& a, const Operand& b,
                   float* c, int64_t ldc, bool add);

}  // namespace lapidary
