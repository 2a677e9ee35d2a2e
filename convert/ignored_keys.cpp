// The reviewed list: keys of config.json that do not change what the text model computes.
//
// A key belongs here only after someone looked up what transformers does with it. Keys that matter
// for some values are not here: their families read or refuse them.
#include "convert/family.h"

namespace lapidary {
namespace {

constexpr std::string_view kIgnored[] = {
    // Which class to build, with which version, in which number type: the tensors say it
    // themselves.
    "architectures",
    "model_type",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "_name_or_path",
    "auto_map",
    "_commit_hash",
    "unsloth_version",
    "unsloth_fixed",
    "base_model_name_or_path",
    // Training only.
    "attention_dropout",
    "initializer_range",
    "output_router_logits",
    "router_aux_loss_coef",
    "resid_pdrop",
    "embd_pdrop",
    "hidden_dropout",
    "gradient_checkpointing",
    // How transformers runs it: caches, kernels, what it returns.
    "use_cache",
    "cache_implementation",
    "_attn_implementation",
    "attn_implementation",
    "_attn_implementation_autoset",
    "_experts_implementation",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "torchscript",
    "chunk_size_feed_forward",
    // Llama's training-time split of matrices; the sum is the same.
    "pretraining_tp",
    // Labels of classification heads, and generation settings of old files (generation_config.json
    // carries them now).
    "id2label",
    "label2id",
    "problem_type",
    "finetuning_task",
    "task_specific_params",
    "num_labels",
    "sep_token_id",
    "prefix",
    "tokenizer_class",
    "max_length",
    "min_length",
    "do_sample",
    "num_beams",
    "num_return_sequences",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "early_stopping",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "diversity_penalty",
    "num_beam_groups",
    "encoder_no_repeat_ngram_size",
    "return_dict_in_generate",
    "output_scores",
    "decoder_start_token_id",
    "tf_legacy_loss",
    "use_bfloat16",
};

}  // namespace

std::span<const std::string_view> ignored_keys() { return kIgnored; }

}  // namespace lapidary
