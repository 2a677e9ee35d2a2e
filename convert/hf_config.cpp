// config.json as a whole: which family it is, and where the text model's keys lie.
//
// Multimodal checkpoints keep them in `text_config`, beside the towers' configs, which do not
// concern the text model.
#include <algorithm>

#include "convert/family.h"
#include "convert/hf_source.h"
#include "formats/error.h"

namespace lapidary {
namespace {

// Ids of placeholder tokens and the towers' own descriptions.
constexpr std::string_view kCompositeIgnored[] = {
    "vision_config",
    "audio_config",
    "image_token_id",
    "video_token_id",
    "audio_token_id",
    "boi_token_id",
    "eoi_token_id",
    "boa_token_id",
    "eoa_token_id",
    "image_token_index",
    "boi_token_index",
    "eoi_token_index",
    "eoa_token_index",
    "audio_token_index",
    "video_token_index",
    "vision_soft_tokens_per_image",
    "audio_soft_tokens_per_image",
    "mm_tokens_per_image",
    "vision_start_token_id",
    "vision_end_token_id",
    "bos_token_id",
    "pad_token_id",
};

bool is_composite(std::string_view model_type) {
  return model_type == "gemma4" || model_type == "gemma4_unified";
}

std::vector<std::string_view> with_composite_keys() {
  const auto common = ignored_keys();
  std::vector<std::string_view> keys(common.begin(), common.end());
  keys.insert(keys.end(), std::begin(kCompositeIgnored), std::end(kCompositeIgnored));
  return keys;
}

HfConfig read_text(const ConfigReader& text, const std::string& model_type) {
  HfConfig read;
  read.family = &find_family(model_type);
  read.config = read.family->read_config(text);
  text.finish(ignored_keys());
  return read;
}

HfConfig read_composite(const ConfigReader& top) {
  refuse_common(top);
  const ConfigReader text = top.object("text_config");
  HfConfig read = read_text(text, text.text("model_type", "gemma4_text"));
  if (top.flag("tie_word_embeddings", read.config.tied_head) != read.config.tied_head)
    top.wrong("tie_word_embeddings", "the value in text_config");
  for (const int32_t id : top.ids("eos_token_id"))
    if (std::find(read.config.eos_ids.begin(), read.config.eos_ids.end(), id) ==
        read.config.eos_ids.end())
      read.config.eos_ids.push_back(id);
  top.finish(with_composite_keys());
  return read;
}

}  // namespace

HfConfig read_hf_config(std::string_view json, const std::string& where) {
  const ConfigReader top(json, where);
  const std::string model_type = top.text("model_type");
  HfConfig read = is_composite(model_type) ? read_composite(top) : read_text(top, model_type);
  with_context(where, [&] { validate(read.config); });
  return read;
}

ModelConfig model_config_from_hf(std::string_view config_json) {
  return read_hf_config(config_json, "config.json").config;
}

}  // namespace lapidary
