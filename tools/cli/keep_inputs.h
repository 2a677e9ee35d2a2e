// No output replaces what it was made from: `quantize m.lap -o m.lap` would end the only master.
#pragma once

#include <string>
#include <vector>

namespace lapidary {

// Throws kUsage when `output` is one of `inputs` (under any name: links are followed), a folder
// that holds one, or a file of an input folder that is not itself a .lap. Empty names are options
// that were not given.
void refuse_to_replace(const std::string& output, const std::vector<std::string>& inputs);

}  // namespace lapidary
