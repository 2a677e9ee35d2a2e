// The reference table: portable, scalar, and by definition correct.
#include "kernels/reference.h"

#include "kernels/tables.h"

namespace lapidary {

const KernelTable kReferenceKernels{
    .isa = Isa::kReference,
    .name = "reference",
    .rotate = reference::rotate,
    .quantize = reference::quantize,
    .round_rows = reference::round_rows,
    .search_trellis = reference::search_trellis,
    .fit_symmetric = reference::fit_symmetric,
    .fit_affine = reference::fit_affine,
    .fit_iq4 = reference::fit_iq4,
    .matmul_float = reference::matmul_float,
    .matmul_int8 = reference::matmul_int8,
    .add_outer_products = reference::add_outer_products,
    .dequantize_rows = reference::dequantize_rows,
    .rms_norm = reference::rms_norm,
    .rope = reference::rope,
    .gelu_mul = reference::gelu_mul,
    .silu_mul = reference::silu_mul,
    .attend_page = reference::attend_page,
    .merge_attention = reference::merge_attention,
    .finish_attention = reference::finish_attention,
    .kv_rotate = reference::kv_rotate,
    .kv_unrotate = reference::kv_unrotate,
    .choose_kv_levels = reference::choose_kv_levels,
    .quantize_kv = reference::quantize_kv,
    .split_query = reference::split_query,
    .add = reference::add,
    .softcap = reference::softcap,
    .float_to_bf16 = reference::float_to_bf16,
};

}  // namespace lapidary
