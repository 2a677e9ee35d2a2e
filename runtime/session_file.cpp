// Header, metadata, token ids, cache; see docs/kv-cache.md.
#include "runtime/session_file.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "runtime/kv_choice.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t metadata_bytes;
  uint64_t n_tokens;
  uint64_t data_bytes;
  Hash128 data_hash;
  Hash128 header_hash;  // of what stands before, then of the metadata
};
static_assert(sizeof(Header) == 64);
constexpr char kMagic[8] = {'L', 'A', 'P', 'S', 'E', 'S', 'S', '\n'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kMostMetadata = 64u << 20;

std::span<const uint8_t> bytes_of(const void* data, uint64_t bytes) {
  return {static_cast<const uint8_t*>(data), static_cast<size_t>(bytes)};
}

Hash128 header_hash(const Header& header, std::string_view metadata) {
  StreamingHash hash;
  hash.update(bytes_of(&header, offsetof(Header, header_hash)));
  hash.update(bytes_of(metadata.data(), metadata.size()));
  return hash.digest();
}

std::string to_metadata(const SessionState& state, const std::string& kv) {
  const Json json{{"model", state.model},
                  {"adapter", state.adapter},
                  {"kv", Json::parse(kv)},
                  {"pending", state.pending},
                  {"messages", Json::parse(state.messages)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

void save_session(const std::string& path, const ModelConfig& config, const Sequence& sequence,
                  const SessionState& state) {
  LAPIDARY_CHECK(static_cast<int64_t>(state.tokens.size()) == sequence.length());
  const std::string metadata = to_metadata(state, kv_to_json(config, sequence.kv()));
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.metadata_bytes = static_cast<uint32_t>(metadata.size());
  header.n_tokens = state.tokens.size();

  AtomicFile file(path);
  file.write(bytes_of(&header, sizeof header));
  file.write(bytes_of(metadata.data(), metadata.size()));
  StreamingHash hash;
  const auto put = [&](std::span<const uint8_t> bytes) {
    hash.update(bytes);
    file.write(bytes);
    header.data_bytes += bytes.size();
  };
  put(bytes_of(state.tokens.data(), state.tokens.size() * sizeof(int32_t)));
  for (const std::span<std::byte> piece : sequence.held_pieces(sequence.length()))
    put(bytes_of(piece.data(), piece.size()));
  header.data_hash = hash.digest();
  header.header_hash = header_hash(header, metadata);
  file.write_at(0, bytes_of(&header, sizeof header));
  file.commit();
}

SessionFile::SessionFile(const std::string& path) : file_(path) {
  with_context("'" + path + "'", [&] {
    Header header{};
    const uint64_t size = file_.size_bytes();
    if (size < sizeof header)
      fail(ErrorCode::kBadData, "no session: {} bytes, a header alone has {}", size, sizeof header);
    file_.read_at(0, {reinterpret_cast<uint8_t*>(&header), sizeof header});
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
      fail(ErrorCode::kBadData, "no session that --save-session wrote");
    if (header.version != kVersion)
      fail(ErrorCode::kBadData, "session version {}: this program reads {}", header.version,
           kVersion);
    const uint64_t rest = size - sizeof header;
    if (header.metadata_bytes > kMostMetadata || header.metadata_bytes > rest ||
        header.data_bytes != rest - header.metadata_bytes || header.n_tokens > INT32_MAX ||
        header.n_tokens * sizeof(int32_t) > header.data_bytes)
      fail(ErrorCode::kBadData, "truncated or damaged: {} bytes do not fit the header", size);
    std::string metadata(header.metadata_bytes, '\0');
    file_.read_at(sizeof header, {reinterpret_cast<uint8_t*>(metadata.data()), metadata.size()});
    if (header_hash(header, metadata) != header.header_hash)
      fail(ErrorCode::kBadData, "the header has changed since it was written");
    try {
      guard_json(metadata, "metadata");
      const Json json = Json::parse(metadata);
      state_.model = json.at("model").get<std::string>();
      state_.adapter = json.at("adapter").get<std::string>();
      state_.pending = json.at("pending").get<std::vector<int32_t>>();
      if (!json.at("messages").is_array()) fail(ErrorCode::kBadData, "messages: no list");
      state_.messages = json.at("messages").dump();
      kv_ = json.at("kv").dump();
    } catch (const Json::exception& e) {
      fail(ErrorCode::kBadData, "metadata: {}", e.what());
    }
    n_tokens_ = static_cast<int64_t>(header.n_tokens);
    data_offset_ = sizeof header + header.metadata_bytes;
    data_bytes_ = header.data_bytes;
    data_hash_ = header.data_hash;
  });
}

std::vector<int32_t> SessionFile::restore(const ModelConfig& config, const std::string& model,
                                          const std::string& adapter, Sequence& sequence) const {
  LAPIDARY_CHECK(sequence.length() == 0);
  return with_context("'" + file_.path() + "'", [&] {
    if (state_.model != model)
      fail(ErrorCode::kUsage, "a session of another model (content {}, this one is {})",
           state_.model, model);
    if (state_.adapter != adapter)
      fail(ErrorCode::kUsage, "a session {}; give the --adapter it was made with",
           state_.adapter.empty() ? "without an adapter" : "with another adapter");
    const std::string kv = kv_to_json(config, sequence.kv());
    if (kv_ != kv)
      fail(ErrorCode::kUsage, "a session with the KV cache {}, this one is {}; drop --kv", kv_, kv);
    if (n_tokens_ > sequence.capacity())
      fail(ErrorCode::kUsage,
           "a session of {} tokens, the context has room for {}; use a larger one", n_tokens_,
           sequence.capacity());
    std::vector<int32_t> tokens(static_cast<size_t>(n_tokens_));
    const std::vector<std::span<std::byte>> pieces = sequence.held_pieces(n_tokens_);
    uint64_t bytes = tokens.size() * sizeof(int32_t);
    for (const std::span<std::byte> piece : pieces) bytes += piece.size();
    if (bytes != data_bytes_)
      fail(ErrorCode::kBadData, "{} bytes of data, expected {} for {} tokens", data_bytes_, bytes,
           n_tokens_);
    StreamingHash hash;
    uint64_t at = data_offset_;
    const auto take = [&](void* out, size_t size) {
      const std::span<uint8_t> to(static_cast<uint8_t*>(out), size);
      file_.read_at(at, to);
      hash.update(to);
      at += size;
    };
    take(tokens.data(), tokens.size() * sizeof(int32_t));
    for (const std::span<std::byte> piece : pieces) take(piece.data(), piece.size());
    if (hash.digest() != data_hash_)
      fail(ErrorCode::kBadData, "tokens or cache have changed since they were written");
    for (const std::vector<int32_t>* ids : {&std::as_const(tokens), &state_.pending})
      for (const int32_t id : *ids)
        if (id < 0 || id >= config.vocab_size)
          fail(ErrorCode::kBadData, "token id {} is outside the vocabulary of {}", id,
               config.vocab_size);
    sequence.restored(n_tokens_);
    return tokens;
  });
}

}  // namespace lapidary
