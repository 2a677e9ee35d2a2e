// From the words of a command line to codes per layer, and what is refused on the way.
#include "runtime/kv_options.h"

#include <charconv>

#include "formats/error.h"
#include "formats/kv_page.h"

namespace lapidary {
namespace {

// A tail beyond this is no tail: the cache would hardly be packed at all.
constexpr int kMostExact = 1 << 20;

std::optional<KvCode> code_of_bits(char bits) {
  switch (bits) {
    case '8':
      return KvCode::kInt8;
    case '5':
      return KvCode::k5Bit;
    case '4':
      return KvCode::k4Bit;
    case '3':
      return KvCode::k3Bit;
    default:
      return std::nullopt;
  }
}

int bits_of(KvCode code) {
  return is_packed(code) ? kv_bits(code) : code == KvCode::kF32 ? 32 : 16;
}

KvLayerCode both(KvCode code) { return {code, code, false}; }
KvLayerCode v_only(KvCode code) { return {code, code, true}; }

// "k8v4"; five bits are for V-only layers, which hold rotary dimensions in eight beside them.
std::optional<KvLayerCode> parse_pair(std::string_view text) {
  if (text.size() != 4 || text[0] != 'k' || text[2] != 'v') return std::nullopt;
  const auto keys = code_of_bits(text[1]), values = code_of_bits(text[3]);
  if (!keys || !values || keys == KvCode::k5Bit || values == KvCode::k5Bit) return std::nullopt;
  return KvLayerCode{*keys, *values, false};
}

std::optional<KvLayerCode> parse_v_only(std::string_view text) {
  if (text.size() != 2 || text[0] != 'v' || text[1] == '3') return std::nullopt;
  const auto code = code_of_bits(text[1]);
  if (!code) return std::nullopt;
  return v_only(*code);
}

int parse_exact(std::string_view number, std::string_view whole) {
  int tokens = -1;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), tokens);
  if (error != std::errc() || end != number.data() + number.size() || tokens < 0 ||
      tokens > kMostExact || tokens % kPageTokens != 0)
    fail(ErrorCode::kUsage,
         "--kv-exact \"{}\": expected SINK,TAIL, multiples of {} up to {}, for example 64,256",
         whole, kPageTokens, kMostExact);
  return tokens;
}

ExactEnds parse_ends(std::string_view text) {
  const size_t comma = std::min(text.find(','), text.size());
  const std::string_view tail = comma < text.size() ? text.substr(comma + 1) : "";
  return {parse_exact(text.substr(0, comma), text), parse_exact(tail, text)};
}

KvLayerCode parse_sliding(std::string_view text) {
  if (text == "off") return both(KvCode::kBF16);
  if (text == "k8v8") return both(KvCode::kInt8);
  fail(ErrorCode::kUsage, "--kv-sliding \"{}\": expected off (16 bits) or k8v8", text);
}

}  // namespace

KvOptions::KvOptions(KvCode code) : global(both(code)), sliding(both(code)) {}

std::optional<KvOptions> parse_kv(const KvText& text) {
  if (text.kv.empty()) {
    if (!text.exact.empty() || !text.sliding.empty() || !text.global.empty() || text.force)
      fail(ErrorCode::kUsage,
           "--kv-exact, --kv-sliding, --kv-global and --force refine a --kv CODE; give it too");
    return std::nullopt;
  }
  KvOptions options;
  if (text.kv == "f32") {
    options = KvCode::kF32;
  } else if (const auto pair = parse_pair(text.kv)) {
    if (bits_of(pair->values) > bits_of(pair->keys) && !text.force)
      fail(ErrorCode::kUsage,
           "KV code {} gives values more bits than keys, which costs quality for nothing; use "
           "k{}v{}, or add --force",
           text.kv, bits_of(pair->values), bits_of(pair->keys));
    options.global = *pair;
    options.k_eq_v = v_only(*pair == both(KvCode::kInt8) ? KvCode::kInt8 : KvCode::k5Bit);
  } else if (text.kv != "off") {
    fail(ErrorCode::kUsage,
         "KV code \"{}\" is not known: expected f32, off (bf16) or kXvY with X and Y of 8, 4, 3, "
         "such as k8v4",
         text.kv);
  }
  if (!text.sliding.empty()) {
    if (text.kv == "f32") fail(ErrorCode::kUsage, "--kv f32 packs nothing; drop --kv-sliding");
    options.sliding = parse_sliding(text.sliding);
  }
  if (!options.global.packed() && !text.global.empty())
    fail(ErrorCode::kUsage, "--kv {} packs nothing; drop --kv-global or give a code such as k8v8",
         text.kv);
  if (!text.exact.empty()) {
    if (!options.global.packed() && !options.sliding.packed())
      fail(ErrorCode::kUsage, "--kv {} packs nothing; drop --kv-exact or give a code such as k8v8",
           text.kv);
    options.ends = parse_ends(text.exact);
  }
  if (text.global == "separate") {
    options.k_eq_v.reset();
  } else if (!text.global.empty()) {
    options.k_eq_v = parse_v_only(text.global);
    if (!options.k_eq_v)
      fail(ErrorCode::kUsage, "--kv-global \"{}\": expected v8, v5, v4 or separate", text.global);
    options.needs_k_eq_v = true;
  }
  return options;
}

std::string kv_name(const KvLayerCode& code) {
  if (code.keys == KvCode::kF32) return "f32";
  if (!code.packed()) return "off";
  if (code.v_only) return fmt::format("v{}", bits_of(code.values));
  return fmt::format("k{}v{}", bits_of(code.keys), bits_of(code.values));
}

KvLayerCode kv_layer_code(std::string_view name) {
  if (name == "off") return both(KvCode::kBF16);
  if (name == "f32") return both(KvCode::kF32);
  if (const auto pair = parse_pair(name)) return *pair;
  if (const auto only = parse_v_only(name)) return *only;
  fail(ErrorCode::kUsage, "KV code of a layer \"{}\": expected off, f32, kXvY, v8, v5 or v4", name);
}

std::string describe(const KvOptions& options) {
  std::string text = kv_name(options.global);
  if (options.layers.empty()) {
    if (options.sliding.packed()) text += " sliding " + kv_name(options.sliding);
    if (options.k_eq_v) text += " k_eq_v " + kv_name(*options.k_eq_v);
  } else {
    text = "layers";
    for (const KvLayerCode& layer : options.layers) text += " " + kv_name(layer);
  }
  return fmt::format("{} exact {},{}", text, options.ends.sink, options.ends.tail);
}

int rotary_dims(const LayerConfig& layer) {
  return layer.rope.kind == RopeKind::kProportional
             ? 2 * static_cast<int>(layer.rope.rotated_fraction * layer.head_dim / 2)
             : layer.head_dim;
}

bool can_store_v_only(const ModelConfig& config, int layer) {
  const LayerConfig& shape = config.layers[layer];
  return shape.k_eq_v && shape.attention == AttentionKind::kGlobal && config.qk_norm &&
         config.v_norm && rotary_dims(shape) < shape.head_dim && rotary_dims(shape) <= kKvBlockDims;
}

KvLayerCode layer_code(const ModelConfig& config, const KvOptions& options, int layer) {
  const LayerConfig& shape = config.layers[config.layers[layer].kv_source];
  if (!options.layers.empty()) return options.layers[config.layers[layer].kv_source];
  if (shape.attention == AttentionKind::kSliding) return options.sliding;
  const bool v_only = options.k_eq_v && can_store_v_only(config, config.layers[layer].kv_source);
  return v_only ? *options.k_eq_v : options.global;
}

ExactEnds layer_ends(const ModelConfig& config, const KvOptions& options, int layer) {
  ExactEnds ends = options.ends;
  if (config.layers[layer].attention == AttentionKind::kSliding) ends.sink = 0;
  return ends;
}

void check_kv(const ModelConfig& config, const KvOptions& options) {
  const ExactEnds& ends = options.ends;
  for (const int tokens : {ends.sink, ends.tail})
    if (tokens < 0 || tokens > kMostExact || tokens % kPageTokens != 0)
      fail(ErrorCode::kUsage, "exact ends {},{}: expected multiples of {} up to {}", ends.sink,
           ends.tail, kPageTokens, kMostExact);
  if (!options.layers.empty() && options.layers.size() != config.layers.size())
    fail(ErrorCode::kUsage, "KV codes for {} layers, the model has {}", options.layers.size(),
         config.layers.size());
  bool has_k_eq_v = false;
  const bool f32 = layer_code(config, options, 0).keys == KvCode::kF32;
  for (int l = 0; l < config.n_layers(); ++l) {
    const LayerConfig& shape = config.layers[l];
    const bool can_v_only = can_store_v_only(config, l);
    has_k_eq_v |= can_v_only;
    if (!config.owns_kv(l)) continue;
    const KvLayerCode code = layer_code(config, options, l);
    if (code.v_only && !can_v_only)
      fail(ErrorCode::kUsage, "KV code {} of layer {}: its K is not made from V (k_eq_v)",
           kv_name(code), l);
    if (is_packed(code.keys) != is_packed(code.values) ||
        (code.keys == KvCode::kF32) != (code.values == KvCode::kF32) ||
        (code.keys == KvCode::kF32) != f32)
      fail(ErrorCode::kUsage, "KV code {} of layer {}: f32 and 16 bits cannot be mixed",
           kv_name(code), l);
    if (shape.attention == AttentionKind::kSliding && code.packed() && code != both(KvCode::kInt8))
      fail(ErrorCode::kUsage, "KV code {} of layer {}: sliding layers take off or k8v8",
           kv_name(code), l);
  }
  if (options.needs_k_eq_v && !has_k_eq_v)
    fail(ErrorCode::kUsage,
         "--kv-global {}: no global layer of this model makes K from V (k_eq_v); drop it or use "
         "separate",
         kv_name(*options.k_eq_v));
}

}  // namespace lapidary
