// Whether an assistant belongs to a model, and which of its layers' K and V it reads.
//
// An assistant's layers read those of the target's last layer of their kind that has its own. What
// can be told from both files is compared; whether it was trained for these weights cannot: then
// guesses fail more often, and answers stay the same.
#pragma once

#include "formats/model_config.h"
#include "runtime/text/tokenizer.h"

namespace lapidary {

// The assistant's config with kv_source (and k_eq_v, which goes with it) of every layer set to the
// target's. Throws kUsage when it is no assistant, or not of such a target.
ModelConfig beside_target(const ModelConfig& assistant, const ModelConfig& target);

// Throws kUsage for the first id that means something else in the target.
void check_same_tokens(const Tokenizer& assistant, const Tokenizer& target);

}  // namespace lapidary
