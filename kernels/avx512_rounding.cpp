// The rounding of 16 rows, one per lane of a vector.
#include "kernels/avx512.h"
#include "kernels/avx512_rounding_lanes.h"
#include "kernels/lanes_rounding.h"

namespace lapidary::avx512 {

void round_rows(Code code, bool has_multipliers, const float* x, int64_t ldx, int n,
                RoundedRows* out) noexcept {
  lanes::round_rows<RoundingLanes>(rounding_rule(code, has_multipliers), x, ldx, n, out);
}

}  // namespace lapidary::avx512
