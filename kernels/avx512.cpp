// The table for CPUs with AVX-512 F, BW, DQ, VL, VNNI and VBMI (Ice Lake, Zen 4 and later).
//
// What is too rare or too short to matter is AVX2's.
#include "kernels/avx512.h"

#include "kernels/avx2.h"
#include "kernels/tables.h"

namespace lapidary {

const KernelTable kAvx512Kernels{
    .isa = Isa::kAvx512,
    .name = "avx512",
    .rotate = avx512::rotate,
    .quantize = avx512::quantize,
    .round_rows = avx512::round_rows,
    .search_trellis = avx512::search_trellis,
    .fit_symmetric = avx512::fit_symmetric,
    .fit_affine = avx512::fit_affine,
    .fit_iq4 = avx512::fit_iq4,
    .matmul_float = avx512::matmul_float,
    .matmul_int8 = avx512::matmul_int8,
    .add_outer_products = avx512::add_outer_products,
    .dequantize_rows = avx2::dequantize_rows,
    .rms_norm = avx512::rms_norm,
    .rope = avx2::rope,
    .gelu_mul = avx512::gelu_mul,
    .silu_mul = avx512::silu_mul,
    .attend_page = avx512::attend_page,
    .merge_attention = avx512::merge_attention,
    .finish_attention = avx512::finish_attention,
    .kv_rotate = avx512::kv_rotate,
    .kv_unrotate = avx512::kv_unrotate,
    .choose_kv_levels = avx512::choose_kv_levels,
    .quantize_kv = avx512::quantize_kv,
    .split_query = avx512::split_query,
    .add = avx512::add,
    .softcap = avx512::softcap,
    .float_to_bf16 = avx2::float_to_bf16,
};

}  // namespace lapidary
