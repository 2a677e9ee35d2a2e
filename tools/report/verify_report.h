// The report of `lapidary verify` as one self-contained HTML page: verdict, measures, pictures,
// reasons, and how to read them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/verify/verdict.h"

namespace lapidary {

// What the measurements themselves do not know. Every text may be hostile; it is escaped.
struct VerifyLabels {
  struct Side {
    std::string name;  // usually the file
    std::vector<std::pair<std::string, std::string>>
        facts;  // "Size", "Bits per weight", "Cache", ...
  };
  Side base, candidate;
  std::string text_source;   // path of the text, empty if none
  std::string tasks_source;  // path of the tasks file, empty if none
  std::string made_by;       // tool and version, for the foot of the page
};

// REQUIRES: judge() was called.
std::string verify_html(const VerifyResult& result, const VerifyLabels& labels);

}  // namespace lapidary
