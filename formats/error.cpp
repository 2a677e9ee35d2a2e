// The end of a broken promise: print which one and abort, so that a debugger or core file shows
// why.
#include "formats/error.h"

#include <cstdio>
#include <cstdlib>

namespace lapidary {

void check_failed(const char* claim, const char* file, int line) {
  std::fprintf(stderr, "lapidary: internal check failed: %s (%s:%d)\n", claim, file, line);
  std::abort();
}

}  // namespace lapidary
