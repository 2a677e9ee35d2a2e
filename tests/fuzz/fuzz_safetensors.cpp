// Any bytes as a safetensors file: it opens and every tensor can be read, or it is an Error.
#include "formats/error.h"
#include "formats/safetensors.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  const MemoryFile file({data, size});
  try {
    const SafetensorsSet set = SafetensorsSet::open_file(file.path());
    for (const SafetensorsEntry& entry : set.entries()) {
      if (set.find(entry.name) == nullptr) std::abort();
      try {
        if (set.read_floats(entry).size() != static_cast<size_t>(entry.elements())) std::abort();
      } catch (const Error&) {  // BOOL
      }
      try {
        (void)set.read_ints(entry);
      } catch (const Error&) {  // floats
      }
    }
  } catch (const Error&) {
  }
  return 0;
}
