// The table for CPUs with AVX2, FMA and F16C (Haswell, Zen and later).
#include "kernels/avx2.h"

#include "kernels/tables.h"

namespace lapidary {

const KernelTable kAvx2Kernels{
    .isa = Isa::kAvx2,
    .name = "avx2",
    .rotate = avx2::rotate,
    .quantize = avx2::quantize,
    .round_rows = avx2::round_rows,
    .search_trellis = avx2::search_trellis,
    .fit_symmetric = avx2::fit_symmetric,
    .fit_affine = avx2::fit_affine,
    .fit_iq4 = avx2::fit_iq4,
    .matmul_float = avx2::matmul_float,
    .matmul_int8 = avx2::matmul_int8,
    .add_outer_products = avx2::add_outer_products,
    .dequantize_rows = avx2::dequantize_rows,
    .rms_norm = avx2::rms_norm,
    .rope = avx2::rope,
    .gelu_mul = avx2::gelu_mul,
    .silu_mul = avx2::silu_mul,
    .attend_page = avx2::attend_page,
    .merge_attention = avx2::merge_attention,
    .finish_attention = avx2::finish_attention,
    .kv_rotate = avx2::kv_rotate,
    .kv_unrotate = avx2::kv_unrotate,
    .choose_kv_levels = avx2::choose_kv_levels,
    .quantize_kv = avx2::quantize_kv,
    .split_query = avx2::split_query,
    .add = avx2::add,
    .softcap = avx2::softcap,
    .float_to_bf16 = avx2::float_to_bf16,
};

}  // namespace lapidary
