// Any bytes as a tasks file: items that keep their promises, or an Error that names the line.
#include <cstdlib>

#include "formats/error.h"
#include "runtime/verify/tasks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  try {
    for (const TaskItem& item : parse_tasks({reinterpret_cast<const char*>(data), size}, 0)) {
      const bool choice = item.gold >= 0;
      if (item.task.empty() || item.task == kPooledName) std::abort();
      if (choice && item.gold >= static_cast<int>(item.choices.size())) std::abort();
      if (!choice && item.answer.empty()) std::abort();
    }
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kBadData) std::abort();
  }
  return 0;
}
