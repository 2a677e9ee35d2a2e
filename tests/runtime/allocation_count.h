// How often this test program has asked for memory since it started.
#pragma once

#include <cstdint>

namespace lapidary {
int64_t allocation_count();
}
