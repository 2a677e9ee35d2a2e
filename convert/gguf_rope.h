// RoPE from GGUF: a base, and for some models a divisor per frequency (the tensor rope_freqs).
#pragma once

#include "formats/gguf_set.h"
#include "formats/model_config.h"

namespace lapidary {

// `rope` with what the divisors of `file` say added: pairs that never rotate (Gemma 4), or llama3's
// three zones, whose four numbers are recovered from them. Without the tensor it stays as it is.
// Throws kBadData for divisors that neither scheme gives.
RopeConfig with_rope_divisors(const GgufSet& file, RopeConfig rope, int head_dim);

}  // namespace lapidary
