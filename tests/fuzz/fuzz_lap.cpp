// Any bytes as a .lap: it opens, verifies and gives all its rows, or it is an Error. Hashes stop
// nearly every mutation at the door, so each input is tried a second time with its hashes and file
// size put right.
#include <vector>

#include "formats/error.h"
#include "formats/lap.h"
#include "tests/formats/lap_reseal.h"
#include "tests/fuzz/memory_file.h"

namespace lapidary {
namespace {

template <class F>
void allow_errors(F&& f) {
  try {
    f();
  } catch (const Error&) {
  }
}

void read_everything(const LapReader& reader) {
  for (size_t i = 0; i < reader.tensors().size(); ++i) {
    const SourceTensor& t = reader.tensors()[i];
    const LapTensor& entry = reader.index()[i];
    if (reader.find(t.name) != &entry) std::abort();
    if (entry.layout != Layout::kRowTable && t.shape.size() >= 2) {
      const int64_t last_expert = t.shape.size() == 3 ? t.shape[0] - 1 : 0;
      const MatrixView view = reader.matrix(entry, last_expert);
      const uint8_t* end = reader.data(entry).data() + reader.data(entry).size();
      if (view.codes < reader.data(entry).data() || view.codes >= end || view.meta >= end)
        std::abort();
    }
    std::vector<float> row(static_cast<size_t>(t.k()));
    for (const int64_t at : {int64_t{0}, t.rows() / 2, t.rows() - 1})
      allow_errors([&] { reader.read_rows(i, at, 1, row); });
  }
  (void)reader.verify({});
  (void)reader.content_hash();
  (void)reader.bits_per_weight();
  allow_errors([&] { (void)reader.metadata(); });
}

void open_and_read(std::span<const uint8_t> bytes) {
  const MemoryFile file(bytes);
  allow_errors([&] { read_everything(*LapReader::open(file.path())); });
}

}  // namespace
}  // namespace lapidary

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  open_and_read({data, size});
  std::vector<uint8_t> sealed(data, data + size);
  if (size >= kLapHeaderBytes) {
    const uint64_t file_bytes = size;
    std::memcpy(sealed.data() + 16, &file_bytes, sizeof file_bytes);  // docs/format.md
  }
  reseal_lap(sealed);
  open_and_read(sealed);
  return 0;
}
