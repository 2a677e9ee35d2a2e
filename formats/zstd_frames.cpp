// zstd's one-call interface. Its content size field must be present and true, so that nobody
// allocates what a frame merely claims.
#include "formats/zstd_frames.h"

#include <zstd.h>

#include "formats/error.h"

namespace lapidary {
namespace {

// A tokenizer's JSON of 32 MB takes about a second; higher levels cost minutes for a few percent.
constexpr int kLevel = 6;

}  // namespace

std::vector<uint8_t> compress_frame(std::span<const uint8_t> bytes) {
  std::vector<uint8_t> out(ZSTD_compressBound(bytes.size()));
  const size_t size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), kLevel);
  if (ZSTD_isError(size))
    fail(ErrorCode::kOutOfMemory, "zstd cannot pack {} bytes: {}", bytes.size(),
         ZSTD_getErrorName(size));
  out.resize(size);
  return out;
}

void decompress_frame(std::span<const uint8_t> frame, std::span<uint8_t> out) {
  const unsigned long long claimed = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (claimed != out.size())  // also when it is unknown or the frame is broken
    fail(ErrorCode::kBadData, "the zstd frame does not unpack to the expected {} bytes",
         out.size());
  const size_t frame_bytes = ZSTD_findFrameCompressedSize(frame.data(), frame.size());
  if (ZSTD_isError(frame_bytes) || frame_bytes != frame.size())
    fail(ErrorCode::kBadData, "not one whole zstd frame of {} bytes", frame.size());
  const size_t size = ZSTD_decompress(out.data(), out.size(), frame.data(), frame.size());
  if (ZSTD_isError(size)) fail(ErrorCode::kBadData, "zstd: {}", ZSTD_getErrorName(size));
  if (size != out.size())
    fail(ErrorCode::kBadData, "the zstd frame unpacked to {} bytes, expected {}", size, out.size());
}

}  // namespace lapidary
