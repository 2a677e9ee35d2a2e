// Any bytes as a session: it is restored or it is an Error. Hashes stop nearly every mutation, so
// each input is tried a second time with its sizes and hashes put right.
#include <cstring>

#include "formats/error.h"
#include "formats/hash.h"
#include "runtime/kv_choice.h"
#include "tests/fuzz/memory_file.h"
#include "tests/runtime/session_fixture.h"

namespace lapidary {
namespace {

void restore(std::span<const uint8_t> bytes) {
  const MemoryFile file(bytes);
  try {
    const SessionFile session(file.path());
    try {
      (void)kv_from_json(session_config(), session.kv());
    } catch (const Error&) {
    }
    const auto sequence = session_sequence();
    (void)session.restore(session_config(), session.state().model, session.state().adapter,
                          *sequence);
  } catch (const Error&) {
  }
}

// docs/kv-cache.md: metadata bytes at 12, data bytes at 24, hash of data at 32, of the header
// at 48.
void reseal(std::vector<uint8_t>& bytes) {
  uint32_t metadata_bytes;
  std::memcpy(&metadata_bytes, &bytes[12], 4);
  metadata_bytes = static_cast<uint32_t>(metadata_bytes % (bytes.size() - 63));
  const uint64_t data_bytes = bytes.size() - 64 - metadata_bytes;
  std::memcpy(&bytes[12], &metadata_bytes, 4);
  std::memcpy(&bytes[24], &data_bytes, 8);
  const std::span<const uint8_t> all = bytes;
  const Hash128 data = hash_bytes(all.subspan(64 + metadata_bytes));
  std::memcpy(&bytes[32], &data, 16);
  StreamingHash header;
  header.update(all.first(48));
  header.update(all.subspan(64, metadata_bytes));
  const Hash128 digest = header.digest();
  std::memcpy(&bytes[48], &digest, 16);
}

}  // namespace
}  // namespace lapidary

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  restore({data, size});
  if (size < 64) return 0;
  std::vector<uint8_t> sealed(data, data + size);
  reseal(sealed);
  restore(sealed);
  return 0;
}
