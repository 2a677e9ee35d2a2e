// How large K and V get in one layer's cache: measured by the runtime, written by exports for
// runtimes whose packed cache has one scale per layer.
#pragma once

namespace lapidary {

struct KvRange {
  float keys = 0, values = 0;  // the largest magnitude of one number
};

}  // namespace lapidary
