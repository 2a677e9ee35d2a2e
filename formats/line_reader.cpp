// A buffer of text that is refilled from the file, or from zstd's streaming decoder.
#include "formats/line_reader.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "formats/error.h"
#include "formats/file.h"

namespace lapidary {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;
constexpr size_t kLongestLine = size_t{256} << 20;

struct FreeDecoder {
  void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};

}  // namespace

struct LineReader::State {
  explicit State(const std::string& path) : file(path) {
    uint8_t magic[4] = {};
    const uint8_t zstd_magic[4] = {0x28, 0xB5, 0x2F, 0xFD};
    if (file.size_bytes() >= sizeof magic) file.read_at(0, magic);
    if (std::memcmp(magic, zstd_magic, sizeof magic) != 0) return;
    decoder.reset(ZSTD_createDStream());
    if (!decoder) fail(ErrorCode::kOutOfMemory, "{}: out of memory", path);
  }

  // Appends more text to `waiting`; false when there is none.
  bool refill() { return decoder ? refill_packed() : read_piece(waiting); }

  bool read_piece(std::string& to) {
    const size_t n =
        static_cast<size_t>(std::min<uint64_t>(kChunkBytes, file.size_bytes() - offset));
    if (n == 0) return false;
    const size_t begin = to.size();
    to.resize(begin + n);
    file.read_at(offset, {reinterpret_cast<uint8_t*>(to.data()) + begin, n});
    offset += n;
    return true;
  }

  bool refill_packed() {
    for (;;) {
      if (packed_at == packed.size() && !decoder_holds_text) {
        packed.clear();
        packed_at = 0;
        if (!read_piece(packed)) {
          if (in_frame)
            fail(ErrorCode::kBadData, "{}: the zstd data end within a frame; the file is cut off",
                 file.path());
          return false;
        }
      }
      const size_t begin = waiting.size();
      waiting.resize(begin + kChunkBytes);
      ZSTD_inBuffer in{packed.data(), packed.size(), packed_at};
      ZSTD_outBuffer out{waiting.data() + begin, kChunkBytes, 0};
      const size_t result = ZSTD_decompressStream(decoder.get(), &out, &in);
      packed_at = in.pos;
      waiting.resize(begin + out.pos);
      if (ZSTD_isError(result))
        fail(ErrorCode::kBadData, "{}: damaged zstd data: {}", file.path(),
             ZSTD_getErrorName(result));
      in_frame = result != 0;
      decoder_holds_text = out.pos == kChunkBytes;
      if (out.pos > 0) return true;
    }
  }

  ReadFile file;
  uint64_t offset = 0;                                 // in the file
  std::unique_ptr<ZSTD_DStream, FreeDecoder> decoder;  // null: plain text
  std::string packed;                                  // read, not decoded
  size_t packed_at = 0;
  bool in_frame = false, decoder_holds_text = false;
  std::string waiting;  // text, not yet given beyond `waiting_at`
  size_t waiting_at = 0;
  int64_t line_number = 0;
  StreamingHash hash;
};

LineReader::LineReader(const std::string& path) : state_(std::make_unique<State>(path)) {}
LineReader::~LineReader() = default;

bool LineReader::next(std::string& line) {
  State& s = *state_;
  size_t searched = s.waiting_at;
  size_t end;
  while ((end = s.waiting.find('\n', searched)) == std::string::npos) {
    if (s.waiting.size() - s.waiting_at > kLongestLine)
      fail(ErrorCode::kBadData, "{} line {}: longer than {} MiB; is this a file of lines?",
           s.file.path(), s.line_number + 1, kLongestLine >> 20);
    s.waiting.erase(0, s.waiting_at);
    s.waiting_at = 0;
    searched = s.waiting.size();
    if (s.refill()) continue;
    if (s.waiting.empty()) return false;
    end = s.waiting.size();
    break;
  }
  const size_t taken = std::min(end + 1, s.waiting.size()) - s.waiting_at;
  s.hash.update({reinterpret_cast<const uint8_t*>(s.waiting.data()) + s.waiting_at, taken});
  line.assign(s.waiting, s.waiting_at, end - s.waiting_at);
  s.waiting_at += taken;
  ++s.line_number;
  return true;
}

int64_t LineReader::line_number() const { return state_->line_number; }
uint64_t LineReader::bytes_read() const { return state_->offset; }
uint64_t LineReader::bytes_total() const { return state_->file.size_bytes(); }
Hash128 LineReader::hash() const { return state_->hash.digest(); }

}  // namespace lapidary
