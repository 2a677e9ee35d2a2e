// Any bytes as a GGUF model: it opens, gives every row and a tokenizer that compiles, or it is an
// Error.
#include <vector>

#include "convert/gguf_source.h"
#include "formats/error.h"
#include "formats/tokenizer_tables.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  const MemoryFile file({data, size});
  try {
    const auto source = GgufSource::open(file.path());
    for (size_t i = 0; i < source->tensors().size(); ++i) {
      const SourceTensor& t = source->tensors()[i];
      std::vector<float> values(static_cast<size_t>(t.elements()));
      source->read_rows(i, 0, t.rows(), values);
      if (traits(t.code).is_float) continue;
      std::vector<uint8_t> indices(values.size());
      std::vector<uint16_t> scales(values.size() / 32);
      source->read_integers(i, 0, t.rows(), indices, scales);
    }
    compile_tokenizer(source->tokenizer_json(), source->metadata().config.vocab_size);
  } catch (const Error&) {
  }
  return 0;
}
