// Training examples as a person should see them before training: on a terminal, and as a page.
#pragma once

#include <span>
#include <string>

#include "finetune/preview.h"

namespace lapidary {

// `coloured`: what is learned in green, the rest grey; else learned text stands between [[ and ]].
std::string preview_text(std::span<const PreviewExample> examples, bool coloured);
std::string preview_html(std::span<const PreviewExample> examples);

}  // namespace lapidary
