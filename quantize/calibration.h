// What calibration is asked for, and what it knows of each tensor afterwards.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "formats/ggml_type.h"

namespace lapidary {

struct CalibrationOptions {
  std::string text;       // plain text, or JSON lines of conversations; empty: the built-in text
  std::string text_name;  // for provenance: a file's name, or "builtin"
  int64_t max_tokens = 32768;
  int context = 512;       // tokens of one window, BOS included
  bool sequential = true;  // a layer's inputs come from already quantized layers
  bool resume = false;     // continue what a run with the same options left beside the output
  bool resumable = true;   // an interrupted run is kept for that; false: removed
  uint64_t memory_bytes = uint64_t{16} << 30;  // refuse to need more
  // By name: tensors rounded to GGUF blocks (ggml_rounder.h), whatever code their entry says.
  // REQUIRES of these: a code that packs, not rotated.
  std::map<std::string, GgmlType> ggml_types = {};

  // The same for a scratch file that is only measured: nobody will resume it.
  CalibrationOptions for_scratch() const {
    CalibrationOptions options = *this;
    options.resume = options.resumable = false;
    return options;
  }
};

// Damping of Hessians, relative to the mean of their diagonals (GPTQ's).
inline constexpr double kDamping = 0.01;
// Of a head that is the embedding too: as much again for its look-ups. Measured:
// docs/calibration.md.
inline constexpr double kTiedDamping = 1;

}  // namespace lapidary
