// A lattice source written as a .lap: integers and scales move into panels and records as they are.
#pragma once

#include <string>

#include "convert/lattice_source.h"
#include "formats/events.h"
#include "formats/lap_copy.h"

namespace lapidary {

// Like copy_to_lap() with `is_source`, for a source whose w4x and w8x tensors are lattices and
// whose other tensors are floats. Streams; some 20 MB in memory.
LapCopyResult copy_lattice_to_lap(const LatticeSource& source, const std::string& output,
                                  const LapTokenizer& tokenizer, const Events& events);

}  // namespace lapidary
