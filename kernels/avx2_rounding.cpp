// The rounding of 16 rows, eight at a time, one per lane of a vector.
#include "kernels/avx2.h"
#include "kernels/avx2_rounding_lanes.h"
#include "kernels/lanes_rounding.h"

namespace lapidary::avx2 {

void round_rows(Code code, bool has_multipliers, const float* x, int64_t ldx, int n,
                RoundedRows* out) noexcept {
  lanes::round_rows<RoundingLanes>(rounding_rule(code, has_multipliers), x, ldx, n, out);
}

}  // namespace lapidary::avx2
