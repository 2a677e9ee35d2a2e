// Decoder steps: Replace, ByteFallback, Fuse, Strip; or ByteLevel alone.
#include "runtime/text/token_decoder.h"

#include "formats/error.h"
#include "formats/utf8.h"
#include "runtime/text/bpe.h"

namespace lapidary {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// The byte of "<0x41>", or -1.
int byte_of(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  const int high = hex_digit(piece[3]), low = hex_digit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

TokenDecoder::TokenDecoder(const TokenizerView& view) {
  for (const TokenizerStep& step : view.steps()) {
    if (step.kind < StepKind::kDecodeReplace) continue;
    switch (step.kind) {
      case StepKind::kDecodeReplace:
        replacements_.push_back({view.text(step), view.content(step)});
        break;
      case StepKind::kDecodeByteFallback:
        byte_fallback_ = true;
        break;
      case StepKind::kDecodeFuse:
        break;
      case StepKind::kDecodeStripStart:
        stripped_ = view.text(step);
        max_strips_ = stripped_.empty() ? 0 : step.flags;
        break;
      case StepKind::kDecodeByteLevel:
        byte_level_ = true;
        break;
      default:
        fail(ErrorCode::kBadData, "tokenizer tables: unknown decoder {}",
             static_cast<uint32_t>(step.kind));
    }
  }
}

void TokenDecoder::emit(std::string_view text, State& state, std::string& out) const {
  while (state.strips_left > 0 && !text.empty()) {
    if (!text.starts_with(stripped_)) {
      state.strips_left = 0;
    } else {
      text.remove_prefix(stripped_.size());
      --state.strips_left;
    }
  }
  out += text;
}

void TokenDecoder::push_byte_level(std::string_view piece, State& state, std::string& out) const {
  const size_t before = state.held_bytes.size();
  for (size_t at = 0; at < piece.size();) {
    const int byte = letter_byte(next_code_point(piece, at));
    if (byte < 0) {
      // An added token with other characters stands for itself.
      state.held_bytes.resize(before);
      state.held_bytes += piece;
      break;
    }
    state.held_bytes += static_cast<char>(byte);
  }
  state.held_bytes.erase(0, append_repaired(state.held_bytes, false, out));
}

// `piece` after the replacements; `storage` holds it when there were any.
std::string_view TokenDecoder::replaced(std::string_view piece, std::string& storage) const {
  for (const auto& [from, to] : replacements_) {
    if (from.empty() || piece.find(from) == std::string_view::npos) continue;
    std::string next;
    size_t at = 0;
    for (size_t hit; (hit = piece.find(from, at)) != std::string_view::npos; at = hit + from.size())
      next.append(piece.substr(at, hit - at)).append(to);
    next += piece.substr(at);
    storage = std::move(next);
    piece = storage;
  }
  return piece;
}

std::string TokenDecoder::bytes(std::string_view piece) const {
  if (byte_level_) {
    std::string out;
    for (size_t at = 0; at < piece.size();) {
      const int byte = letter_byte(next_code_point(piece, at));
      if (byte < 0) return std::string(piece);
      out += static_cast<char>(byte);
    }
    return out;
  }
  std::string storage;
  piece = replaced(piece, storage);
  const int byte = byte_fallback_ ? byte_of(piece) : -1;
  return byte >= 0 ? std::string(1, static_cast<char>(byte)) : std::string(piece);
}

void TokenDecoder::push(std::string_view piece, State& state, std::string& out) const {
  if (byte_level_) return push_byte_level(piece, state, out);
  std::string storage;
  piece = replaced(piece, storage);
  if (const int byte = byte_fallback_ ? byte_of(piece) : -1; byte >= 0) {
    state.held_bytes += static_cast<char>(byte);
    return;
  }
  finish(state, out);
  emit(piece, state, out);
}

void TokenDecoder::finish(State& state, std::string& out) const {
  if (state.held_bytes.empty()) return;
  if (byte_level_) {
    append_repaired(state.held_bytes, true, out);
  } else if (is_valid_utf8(state.held_bytes)) {
    emit(state.held_bytes, state, out);
  } else {
    for (size_t i = 0; i < state.held_bytes.size(); ++i) emit(kReplacementCharacter, state, out);
  }
  state.held_bytes.clear();
}

}  // namespace lapidary
