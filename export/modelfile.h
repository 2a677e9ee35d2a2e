// Ollama's Modelfile: which GGUF, how a chat is written, where an answer ends, how to sample.
#pragma once

#include <string>

#include "formats/lap.h"

namespace lapidary {

// `gguf`: the file's name as FROM shall say it. The chat template is Go's, of the families whose
// turns we know; for another one a comment says that the GGUF's own is used. Source: Ollama's
// docs/modelfile.md and docs/template.md.
std::string ollama_modelfile(const LapReader& model, const std::string& gguf);

}  // namespace lapidary
