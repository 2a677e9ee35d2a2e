// Tokenizes with the source's own tokenizer, which a folder brings as JSON.
#include "quantize/calibration_windows.h"

#include <algorithm>

#include "formats/error.h"
#include "formats/hash.h"
#include "formats/tokenizer_tables.h"
#include "quantize/calibration_text.h"
#include "runtime/text/tokenizer.h"

namespace lapidary {

CalibrationWindows calibration_windows(const ModelSource& source,
                                       const CalibrationOptions& options) {
  const ModelConfig& config = source.metadata().config;
  if (options.context < 2 || options.context > 65536)
    fail(ErrorCode::kUsage, "--calibrate-context {}: expected 2 to 65536", options.context);
  if (options.max_tokens < 2)
    fail(ErrorCode::kUsage, "--calibrate-tokens {}: expected 2 or more", options.max_tokens);
  const std::string json = source.tokenizer_json();
  if (json.empty())
    fail(ErrorCode::kBadData, "{}: no tokenizer, so no text to calibrate with", source.describe());
  const std::vector<uint8_t> tables = compile_tokenizer(json, config.vocab_size);
  const Tokenizer tokenizer(tables);
  const std::vector<int32_t> tokens =
      options.text.empty() ? builtin_calibration_tokens(tokenizer, source.metadata())
                           : calibration_tokens(tokenizer, source.metadata(), options.text);

  int32_t bos = config.bos_id;
  if (bos < 0) bos = tokenizer.bos_id().value_or(-1);
  CalibrationWindows result;
  StreamingHash hash;
  for (size_t at = 0; at < tokens.size() && result.n_tokens < options.max_tokens;) {
    std::vector<int32_t> window;
    if (bos >= 0) window.push_back(bos);
    const int64_t room = std::min<int64_t>(options.context - static_cast<int64_t>(window.size()),
                                           options.max_tokens - result.n_tokens);
    const size_t n = std::min(tokens.size() - at, static_cast<size_t>(room));
    for (size_t i = 0; i < n; ++i) window.push_back(tokens[at + i]);
    at += n;
    if (window.size() < 2) break;
    for (const int32_t id : window)
      if (id < 0 || id >= config.vocab_size)
        fail(ErrorCode::kBadData,
             "the tokenizer gave id {}, but the model's vocabulary has {} entries", id,
             config.vocab_size);
    hash.update({reinterpret_cast<const uint8_t*>(window.data()), window.size() * sizeof(int32_t)});
    result.n_tokens += static_cast<int64_t>(window.size());
    result.windows.push_back(std::move(window));
  }
  if (result.windows.empty())
    fail(ErrorCode::kBadData, "the calibration text is empty: expected at least one token");
  result.hash = to_hex(hash.digest());
  return result;
}

}  // namespace lapidary
