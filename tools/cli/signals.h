// Ctrl-C: the first asks the running command to stop and clean up, the second ends it at once.
#pragma once

#include <atomic>

namespace lapidary {

void catch_interrupts();  // SIGINT and SIGTERM; SIGPIPE and SIGXFSZ become errors
const std::atomic<bool>& interrupted_flag();  // for Events::cancelled

}  // namespace lapidary
