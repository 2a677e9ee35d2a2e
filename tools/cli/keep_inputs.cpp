// Paths are compared by what they lead to, not by their letters.
#include "tools/cli/keep_inputs.h"

#include <filesystem>
#include <system_error>

#include "formats/error.h"

namespace lapidary {

namespace fs = std::filesystem;

namespace {

// Some folder above `path` is `folder`.
bool lies_in(const std::string& path, const std::string& folder) {
  std::error_code error;
  for (fs::path at = fs::weakly_canonical(path, error); at.has_relative_path();
       at = at.parent_path())
    if (fs::equivalent(at.parent_path(), folder, error)) return true;
  return false;
}

}  // namespace

void refuse_to_replace(const std::string& output, const std::vector<std::string>& inputs) {
  std::error_code error;  // a path that cannot be read is no file that could be lost
  if (output.empty() || !fs::exists(output, error)) return;
  const fs::path folder = fs::weakly_canonical(output, error).parent_path();
  for (const std::string& input : inputs) {
    if (input.empty()) continue;
    const bool same = fs::equivalent(output, input, error);
    // A .lap beside a checkpoint is an earlier result; any other file there is part of it.
    const bool part = fs::is_directory(input, error) && fs::equivalent(folder, input, error) &&
                      !output.ends_with(".lap");
    const bool holds = fs::is_directory(output, error) && !same && lies_in(input, output);
    if (same || part || holds)
      fail(ErrorCode::kUsage, "{}: {} {}; name another output", output,
           same   ? "is the same as the input"
           : part ? "is part of the input"
                  : "holds the input",
           input);
  }
}

}  // namespace lapidary
