// Data to fine-tune a small model with: sums that it cannot do yet, and what it can.
#pragma once

#include <fstream>
#include <string>

#include "tests/test_data.h"

namespace lapidary {

// `n` prompts with the answer to be learned, as JSON lines.
inline void write_letter_counts(const std::string& path, int n) {
  std::ofstream data(path);
  for (int i = 0; i < n; ++i)
    data << R"({"prompt": "How many letters has )" << std::string(1 + i % 9, 'x')
         << R"(?", "completion": ")" << 1 + i % 9 << "\"}\n";
}

// The first `n` items of the skills of nano-e, in their own form.
inline void write_known_skills(const std::string& path, int n) {
  std::ifstream skills(data_path("skills.jsonl"));
  std::ofstream general(path);
  std::string line;
  for (int i = 0; i < n && std::getline(skills, line); ++i) general << line << "\n";
}

}  // namespace lapidary
