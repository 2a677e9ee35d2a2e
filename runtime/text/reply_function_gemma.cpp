// FunctionGemma: Gemma 4's calls between other tokens, and no thoughts.
#include "runtime/text/reply_families.h"

namespace lapidary {

const GemmaMarkers kFunctionGemmaMarkers{
    {},        {}, "<start_function_call>", "<end_function_call>", "<start_function_response>",
    "<escape>"};

}  // namespace lapidary
