// Packing, and calls into LibTorch's block kernels or its plain product.
#include "finetune/block_product.h"

#include <ATen/ATen.h>
#include <ATen/cpu/Utils.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "finetune/wide_loops.h"

namespace lapidary {
namespace {

using at::native::cpublas::brgemm;
using Words = uint32_t __attribute__((vector_size(16)));

// Whether the kernels run here; asked once, by trying.
bool has_kernels() {
  static const bool answer = [] {
    try {
      const std::vector<float> a(16 * 16, 1.0f), b(16 * kBlockColumns, 1.0f);
      std::vector<float> c(16 * kBlockColumns);
      brgemm(16, kBlockColumns, 16, 16, kBlockColumns, kBlockColumns, false, a.data(), b.data(),
             c.data(), false);
      return c[0] == 16.0f;
    } catch (const std::exception&) {
      return false;
    }
  }();
  return answer;
}

bool has_bfloat16() {
  static const bool answer = [] {
    const auto known = at::cpu::get_cpu_capabilities();
    const auto has = [&](const char* name) {
      const auto it = known.find(name);
      return it != known.end() && it->second.isBool() && it->second.toBool();
    };
    return has_kernels() && (has("avx512_bf16") || has("amx_bf16"));
  }();
  return answer;
}

// Round to nearest, ties to even; values are finite.
inline uint32_t bfloat16_bits(float value) {
  uint32_t u;
  std::memcpy(&u, &value, 4);
  return (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
}

LAPIDARY_WIDE_LOOPS void to_bfloat16(const float* __restrict in, int64_t n,
                                     uint16_t* __restrict out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<uint16_t>(bfloat16_bits(in[i]));
}

// Two rows, interleaved: [even_0, odd_0, even_1, odd_1, ...].
LAPIDARY_WIDE_LOOPS void interleave(const float* __restrict even, const float* __restrict odd,
                                    int64_t n, uint32_t* __restrict out) {
  for (int64_t i = 0; i < n; ++i) out[i] = bfloat16_bits(even[i]) | bfloat16_bits(odd[i]) << 16;
}

Words load(const uint32_t* p) {
  Words w;
  std::memcpy(&w, p, sizeof w);
  return w;
}
void store(uint32_t* p, Words w) { std::memcpy(p, &w, sizeof w); }

// out[c * ld_out + r] = in[r * ld_in + c], squares of four at a time.
void transpose_words(const uint32_t* in, int64_t ld_in, int64_t n_rows, int64_t n_columns,
                     uint32_t* out, int64_t ld_out) {
  const int64_t whole = n_columns / 4 * 4;
  int64_t r = 0;
  for (; r + 4 <= n_rows; r += 4) {
    const uint32_t* from = in + r * ld_in;
    for (int64_t c = 0; c < whole; c += 4) {
      const Words r0 = load(from + c), r1 = load(from + ld_in + c);
      const Words r2 = load(from + 2 * ld_in + c), r3 = load(from + 3 * ld_in + c);
      const Words a = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);
      const Words b = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
      const Words d = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
      const Words e = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
      uint32_t* to = out + c * ld_out + r;
      store(to, __builtin_shufflevector(a, d, 0, 1, 4, 5));
      store(to + ld_out, __builtin_shufflevector(a, d, 2, 3, 6, 7));
      store(to + 2 * ld_out, __builtin_shufflevector(b, e, 0, 1, 4, 5));
      store(to + 3 * ld_out, __builtin_shufflevector(b, e, 2, 3, 6, 7));
    }
    for (int64_t c = whole; c < n_columns; ++c)
      for (int64_t i = 0; i < 4; ++i) out[c * ld_out + r + i] = from[i * ld_in + c];
  }
  for (; r < n_rows; ++r)
    for (int64_t c = 0; c < n_columns; ++c) out[c * ld_out + r] = in[r * ld_in + c];
}

// Scratch of this thread, one per purpose; never shrinks.
template <class T, int kPurpose>
T* scratch(int64_t count) {
  thread_local std::vector<T> buffer;
  if (static_cast<int64_t>(buffer.size()) < count) buffer.resize(static_cast<size_t>(count));
  return buffer.data();
}

uint8_t* block_at(Precision p, void* packed, int64_t k, int64_t block) {
  return static_cast<uint8_t*>(packed) + packed_bytes(p, k, kBlockColumns) * block;
}

at::Tensor view_of(const float* data, int64_t rows, int64_t columns, int64_t ld) {
  return at::from_blob(const_cast<float*>(data), {rows, columns}, {ld, 1}, at::kFloat);
}

}  // namespace

Precision native_precision() { return has_bfloat16() ? Precision::kBFloat16 : Precision::kFloat32; }

bool has_bfloat16_kernels() {
  static const bool answer = [] {
    try {
      const std::vector<at::BFloat16> a(16 * 16, 1.0f), b(16 * kBlockColumns, 1.0f);
      std::vector<float> c(16 * kBlockColumns);
      brgemm(16, kBlockColumns, 16, 16, kBlockColumns, kBlockColumns, false, a.data(), b.data(),
             c.data(), true);
      return c[0] == 16.0f;
    } catch (const std::exception&) {
      return false;
    }
  }();
  return answer;
}

void pack_left(Precision p, const float* values, int64_t count, void* packed) {
  if (p == Precision::kBFloat16)
    to_bfloat16(values, count, static_cast<uint16_t*>(packed));
  else
    std::memcpy(packed, values, static_cast<size_t>(count) * sizeof(float));
}

void pack_columns(Precision p, const float* columns, int64_t ld, int64_t n_columns, int64_t given,
                  int64_t k, int64_t first_column, void* packed) {
  auto* out = reinterpret_cast<uint32_t*>(block_at(p, packed, k, first_column / kBlockColumns)) +
              first_column % kBlockColumns;
  if (p == Precision::kFloat32) {
    transpose_words(reinterpret_cast<const uint32_t*>(columns), ld, n_columns, given, out,
                    kBlockColumns);
    return;
  }
  // Two consecutive k of one column are one word: rounded, a column is such words already.
  const int64_t words = round_up(given, 2) / 2;
  auto* rounded = scratch<uint32_t, 0>(n_columns * words);
  for (int64_t c = 0; c < n_columns; ++c) {
    auto* row = reinterpret_cast<uint16_t*>(rounded + c * words);
    to_bfloat16(columns + c * ld, given, row);
    if (given % 2) row[given] = 0;
  }
  transpose_words(rounded, words, n_columns, words, out, kBlockColumns);
}

void pack_rows(Precision p, const float* rows, int64_t ld, int64_t n_rows, int64_t n, int64_t k,
               int64_t first_row, void* packed) {
  for (int64_t first = 0; first < n; first += kBlockColumns) {
    const int64_t width = std::min(kBlockColumns, n - first);
    uint8_t* block = block_at(p, packed, k, first / kBlockColumns);
    if (p == Precision::kFloat32) {
      auto* out = reinterpret_cast<float*>(block) + first_row * kBlockColumns;
      for (int64_t r = 0; r < n_rows; ++r)
        std::copy_n(rows + r * ld + first, width, out + r * kBlockColumns);
      continue;
    }
    auto* out = reinterpret_cast<uint32_t*>(block) + first_row / 2 * kBlockColumns;
    for (int64_t r = 0; r < n_rows; r += 2, out += kBlockColumns) {
      const float* even = rows + r * ld + first;
      const float* odd = even + ld;
      if (r + 1 < n_rows)
        interleave(even, odd, width, out);
      else
        for (int64_t c = 0; c < width; ++c) out[c] = bfloat16_bits(even[c]);
    }
  }
}

void multiply_blocks(const BlockCall& call, int64_t n_rows, int64_t first_column,
                     int64_t n_columns) {
  const Precision p = call.precision;
  const int64_t k = p == Precision::kBFloat16 ? round_up(call.k, 2) : call.k;
  for (int64_t column = first_column; column < first_column + n_columns; column += kBlockColumns) {
    const int64_t width = std::min(kBlockColumns, first_column + n_columns - column);
    const uint8_t* b = block_at(p, const_cast<void*>(call.packed), call.k, column / kBlockColumns);
    for (int64_t row = 0; row < n_rows; row += kBlockRows) {
      const int64_t m = std::min(kBlockRows, n_rows - row);
      float* c = call.c + row * call.ldc + column;
      if (p == Precision::kBFloat16) {
        brgemm(m, width, k, call.lda, kBlockColumns, call.ldc, call.add,
               static_cast<const at::BFloat16*>(call.a) + row * call.lda,
               reinterpret_cast<const at::BFloat16*>(b), c, true);
      } else if (has_kernels()) {
        brgemm(m, width, k, call.lda, kBlockColumns, call.ldc, call.add,
               static_cast<const float*>(call.a) + row * call.lda,
               reinterpret_cast<const float*>(b), c, false);
      } else {
        at::Tensor out = view_of(c, m, width, call.ldc);
        const at::Tensor left =
            view_of(static_cast<const float*>(call.a) + row * call.lda, m, k, call.lda);
        const at::Tensor right =
            view_of(reinterpret_cast<const float*>(b), k, width, kBlockColumns);
        if (call.add)
          out.addmm_(left, right);
        else
          at::mm_out(out, left, right);
      }
    }
  }
}

void release_blocks(Precision p) {
  if (has_kernels()) at::native::cpublas::brgemm_release(p == Precision::kBFloat16);
}

// Kernels are compiled per shape, and these shapes change with every batch: pieces of fixed sizes
// go through a tile of 64 x 64 outputs, so that a few dozen kernels serve everything.
void block_product(Precision p, int64_t m, int64_t n, int64_t k, const Operand& a, const Operand& b,
                   float* c, int64_t ldc, bool add) {
  constexpr int64_t kDepth = 256, kDepthMultiple = 32;
  alignas(64) float tile[kBlockRows * kBlockColumns];
  const int64_t n_depths = (k + kDepth - 1) / kDepth;
  const auto given = [&](int64_t d) { return std::min(kDepth, k - d * kDepth); };
  const auto padded = [&](int64_t d) { return round_up(given(d), kDepthMultiple); };
  const int64_t right_bytes = packed_bytes(p, kDepth, n), left_bytes = kBlockRows * kDepth * 4;
  uint8_t* right = scratch<uint8_t, 1>(right_bytes * n_depths);
  uint8_t* left = scratch<uint8_t, 2>(left_bytes * n_depths);
  float* turned = scratch<float, 3>(kBlockRows * kDepth);

  for (int64_t d = 0; d < n_depths; ++d) {
    uint8_t* packed = right + d * right_bytes;
    // Padding takes part in the sums, so it must be zero.
    if (padded(d) != given(d) || n % kBlockColumns != 0)
      std::memset(packed, 0, static_cast<size_t>(packed_bytes(p, padded(d), n)));
    if (!b.transposed) {
      pack_rows(p, b.data + d * kDepth * b.ld, b.ld, given(d), n, padded(d), 0, packed);
      continue;
    }
    for (int64_t column = 0; column < n; column += 16)
      pack_columns(p, b.data + column * b.ld + d * kDepth, b.ld, std::min<int64_t>(16, n - column),
                   given(d), padded(d), column, packed);
  }
  for (int64_t row = 0; row < m; row += kBlockRows) {
    const int64_t n_rows = std::min(kBlockRows, m - row);
    for (int64_t d = 0; d < n_depths; ++d) {
      const float* from = a.data + row * a.ld + d * kDepth;
      int64_t ld = a.ld;
      if (a.transposed) {
        transpose_words(reinterpret_cast<const uint32_t*>(a.data + d * kDepth * a.ld + row), a.ld,
                        given(d), n_rows, reinterpret_cast<uint32_t*>(turned), kDepth);
        from = turned;
        ld = kDepth;
      }
      uint8_t* packed = left + d * left_bytes;
      for (int64_t i = 0; i < n_rows; ++i) {
        uint8_t* to = packed + i * kDepth * element_bytes(p);
        pack_left(p, from + i * ld, given(d), to);
        std::memset(to + given(d) * element_bytes(p), 0,
                    static_cast<size_t>((padded(d) - given(d)) * element_bytes(p)));
      }
    }
    for (int64_t column = 0; column < n; column += kBlockColumns) {
      const int64_t width = std::min(kBlockColumns, n - column);
      for (int64_t d = 0; d < n_depths; ++d) {
        // The tile's own columns are the first of what the call sees.
        const uint8_t* block = right + d * right_bytes +
                               packed_bytes(p, padded(d), kBlockColumns) * (column / kBlockColumns);
        multiply_blocks({p, padded(d), left + d * left_bytes, kDepth, block, tile, kBlockColumns,
                         /*add=*/d > 0},
                        round_up(n_rows, kRowMultiple), 0, round_up(width, 16));
      }
      for (int64_t i = 0; i < n_rows; ++i) {
        const float* from = tile + i * kBlockColumns;
        float* to = c + (row + i) * ldc + column;
        if (add)
          for (int64_t j = 0; j < width; ++j) to[j] += from[j];
        else
          std::copy_n(from, width, to);
      }
    }
  }
}

}  // namespace lapidary
