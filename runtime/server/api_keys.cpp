// SHA-256 makes keys of any length equally long; CRYPTO_memcmp looks at all bytes.
#include "runtime/server/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <sstream>

#include "formats/error.h"
#include "formats/file.h"

namespace lapidary::server {

ApiKeys::Hash ApiKeys::hash_of(std::string_view key) {
  Hash hash;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), hash.data());
  return hash;
}

ApiKeys ApiKeys::of(const std::vector<std::string>& keys) {
  ApiKeys out;
  for (const std::string& key : keys) out.hashes_.push_back(hash_of(key));
  return out;
}

ApiKeys ApiKeys::from_file(const std::string& path) {
  std::vector<std::string> keys;
  std::istringstream lines(read_text(path, 1 << 20));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    if (line.find_first_of(" \t") != std::string::npos)
      fail(ErrorCode::kBadData, "{}: a key has spaces; expected one key a line", path);
    keys.push_back(line);
  }
  if (keys.empty()) fail(ErrorCode::kBadData, "{}: has no key; expected one a line", path);
  return of(keys);
}

std::optional<size_t> ApiKeys::find(std::string_view key) const {
  const Hash hash = hash_of(key);
  std::optional<size_t> found;
  for (size_t i = 0; i < hashes_.size(); ++i)
    if (CRYPTO_memcmp(hash.data(), hashes_[i].data(), hash.size()) == 0) found = i;
  return found;
}

}  // namespace lapidary::server
