// The safetensors writer: header first, tensors back to back in the given order.
#include <array>
#include <bit>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/safetensors.h"

namespace lapidary {

void write_safetensors(const std::string& path, const std::vector<SafetensorsOutput>& tensors,
                       const std::map<std::string, std::string>& file_metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!file_metadata.empty()) header["__metadata__"] = file_metadata;
  uint64_t position = 0;
  for (const SafetensorsOutput& t : tensors) {
    uint64_t bytes = static_cast<uint64_t>(dtype_bytes(t.dtype));
    for (const int64_t n : t.shape) bytes *= static_cast<uint64_t>(n);
    LAPIDARY_CHECK(t.bytes.size() == bytes && !header.contains(t.name));
    header[t.name] = {{"dtype", dtype_name(t.dtype)},
                      {"shape", t.shape},
                      {"data_offsets", {position, position + t.bytes.size()}}};
    position += t.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');

  AtomicFile file(path);
  file.write(std::bit_cast<std::array<uint8_t, 8>>(static_cast<uint64_t>(text.size())));
  file.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  for (const SafetensorsOutput& t : tensors) file.write(t.bytes);
  file.commit();
}

}  // namespace lapidary
