// The safetensors writer: header first, padded to 8 bytes, tensors back to back in the given order.
#include <array>
#include <bit>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/safetensors.h"

namespace lapidary {

SafetensorsWriter::SafetensorsWriter(const std::string& path,
                                     const std::vector<SafetensorsTensor>& tensors,
                                     const std::map<std::string, std::string>& file_metadata)
    : file_(path) {
  nlohmann::json header = nlohmann::json::object();
  if (!file_metadata.empty()) header["__metadata__"] = file_metadata;
  uint64_t position = 0;
  for (const SafetensorsTensor& t : tensors) {
    uint64_t bytes = static_cast<uint64_t>(dtype_bytes(t.dtype));
    for (const int64_t n : t.shape) bytes *= static_cast<uint64_t>(n);
    LAPIDARY_CHECK(!header.contains(t.name));
    offsets_.push_back(position);
    header[t.name] = {{"dtype", dtype_name(t.dtype)},
                      {"shape", t.shape},
                      {"data_offsets", {position, position + bytes}}};
    position += bytes;
  }
  offsets_.push_back(position);
  missing_bytes_ = position;
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  file_.write(std::bit_cast<std::array<uint8_t, 8>>(static_cast<uint64_t>(text.size())));
  file_.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  for (uint64_t& offset : offsets_) offset += file_.position();
}

void SafetensorsWriter::append(std::span<const uint8_t> bytes) {
  LAPIDARY_CHECK(bytes.size() <= missing_bytes_);
  missing_bytes_ -= bytes.size();
  file_.write(bytes);
}

void SafetensorsWriter::write(size_t tensor, uint64_t first, std::span<const uint8_t> bytes) {
  LAPIDARY_CHECK(offsets_[tensor] + first + bytes.size() <= offsets_[tensor + 1]);
  LAPIDARY_CHECK(bytes.size() <= missing_bytes_);
  missing_bytes_ -= bytes.size();
  file_.write_at(offsets_[tensor] + first, bytes);
}

void SafetensorsWriter::commit() {
  LAPIDARY_CHECK(missing_bytes_ == 0);
  file_.commit();
}

void write_safetensors(const std::string& path, const std::vector<SafetensorsOutput>& tensors,
                       const std::map<std::string, std::string>& file_metadata) {
  std::vector<SafetensorsTensor> header;
  header.reserve(tensors.size());
  for (const SafetensorsOutput& t : tensors) header.push_back({t.name, t.dtype, t.shape});
  SafetensorsWriter writer(path, header, file_metadata);
  for (const SafetensorsOutput& t : tensors) writer.append(t.bytes);
  writer.commit();
}

}  // namespace lapidary
