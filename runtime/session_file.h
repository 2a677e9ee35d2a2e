// A sequence on disk: token ids and every byte of its cache, so that it goes on in another process
// as if it had never stopped. Specified to the byte in docs/kv-cache.md.
//
// A session belongs to the weights, the adapter and the KV options it was made with; all three are
// compared. Everything is hashed. The reader trusts nothing: a damaged, truncated or foreign file
// is an Error and leaves the sequence empty.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/file.h"
#include "formats/hash.h"
#include "runtime/kv_cache.h"

namespace lapidary {

// What surrounds the cache of a session.
struct SessionState {
  std::string model;             // content hash of the weights
  std::string adapter;           // adapter_identity(); empty: none
  std::vector<int32_t> tokens;   // those that the cache holds
  std::vector<int32_t> pending;  // and those that come next: chosen, not yet computed
  std::string messages = "[]";   // JSON array: the conversation so far; empty for plain text
};

// Writes path whole or not at all. REQUIRES: state.tokens are sequence's.
void save_session(const std::string& path, const ModelConfig& config, const Sequence& sequence,
                  const SessionState& state);

class SessionFile {
 public:
  // Checks the file's size and header. Throws kNotFound, kIo or kBadData.
  explicit SessionFile(const std::string& path);

  // All but state().tokens, which are read by restore().
  const SessionState& state() const { return state_; }
  int64_t n_tokens() const { return n_tokens_; }
  const std::string& kv() const { return kv_; }  // as kv_to_json(); see kv_from_json()

  // Fills an empty sequence and returns the tokens it then holds. Throws kUsage when the session is
  // of another model, adapter or cache, or longer than the sequence; kBadData when bytes changed.
  std::vector<int32_t> restore(const ModelConfig& config, const std::string& model,
                               const std::string& adapter, Sequence& sequence) const;

 private:
  ReadFile file_;
  SessionState state_;
  std::string kv_;
  int64_t n_tokens_ = 0;
  uint64_t data_offset_ = 0, data_bytes_ = 0;  // token ids, then the cache
  Hash128 data_hash_;
};

}  // namespace lapidary
