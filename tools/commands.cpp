// Which commands this build has.
#include "tools/commands.h"

namespace lapidary {

std::vector<AddCommand*> all_commands() {
  return {add_convert,  add_quantize,
#ifdef LAPIDARY_HAS_FINETUNE
          add_finetune,
#endif
          add_merge,    add_run,      add_serve,  add_eval, add_verify,
          add_inspect,  add_tokenize, add_export, add_bench};
}

}  // namespace lapidary
