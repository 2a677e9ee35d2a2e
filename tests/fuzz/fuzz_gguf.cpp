// Any bytes as a GGUF file: it opens and every tensor can be decoded, or it is an Error.
#include <cstdlib>
#include <vector>

#include "formats/error.h"
#include "formats/ggml_blocks.h"
#include "formats/gguf.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  const MemoryFile file({data, size});
  try {
    const GgufReader reader(file.path());
    for (const GgufPair& pair : reader.pairs())
      if (reader.find(pair.key) == nullptr) std::abort();
    for (const GgufTensor& t : reader.tensors()) {
      std::vector<float> values(static_cast<size_t>(t.rows() * t.k()));
      decode_blocks(t.type, reader.data(t), values);
    }
  } catch (const Error&) {
  }
  return 0;
}
