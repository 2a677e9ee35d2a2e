// Whole conversions: what stands in the folder stands in the .lap, bit by bit; a folder that is not
// whole or not sound gives one clear line and no output.
#include "convert/convert.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "convert/hf_source.h"
#include "formats/file.h"
#include "formats/float_codes.h"
#include "formats/lap.h"
#include "formats/provenance.h"
#include "formats/safetensors.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const char* const kFixtures[] = {"nano-e", "tiny-gemma3", "tiny-gemma4-omni", "tiny-llama3",
                                 "tiny-qwen3"};

ConvertReport convert_folder(const std::string& folder, const std::string& output,
                             const std::string& config = "config.json") {
  return convert(*HfSource::open(folder, config), output, Events{});
}

std::string canonical(std::string name) {
  const std::string prefix = "model.language_model.";
  return name.starts_with(prefix) ? "model." + name.substr(prefix.size()) : name;
}

// A copy of a fixture that a test may damage.
class Copy {
 public:
  explicit Copy(const std::string& fixture) : fixture_(fixture) {
    for (const auto& entry : fs::directory_iterator(data_path(fixture)))
      if (entry.is_regular_file()) {
        fs::copy_file(entry.path(), at(entry.path().filename()));
        fs::permissions(at(entry.path().filename()), fs::perms::owner_write, fs::perm_options::add);
      }
  }
  std::string at(const std::string& name) const { return folder_.file(name); }
  const std::string& path() const { return folder_.path(); }

  void edit_json(const std::string& name, const std::function<void(Json&)>& edit) const {
    Json json = path_exists(at(name)) ? Json::parse(read_text(at(name))) : Json::object();
    edit(json);
    std::ofstream(at(name)) << json.dump();
  }

  // Rewrites model.safetensors after `edit` changed the list of (tensor, bytes).
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    std::vector<uint8_t> bytes;
  };
  void edit_weights(const std::function<void(std::vector<Tensor>&)>& edit) const {
    std::vector<Tensor> tensors;
    {
      const auto set = SafetensorsSet::open_folder(data_path(fixture_));
      for (const auto& e : set.entries()) {
        tensors.push_back({e.name, e.dtype, e.shape, std::vector<uint8_t>(e.bytes)});
        set.read(e, 0, tensors.back().bytes);
      }
    }
    edit(tensors);
    std::vector<SafetensorsOutput> out;
    for (const auto& t : tensors) out.push_back({t.name, t.dtype, t.shape, t.bytes});
    fs::remove(at("model.safetensors"));
    write_safetensors(at("model.safetensors"), out);
  }

  // The message of the Error that converting gives; checks that nothing is left behind.
  std::string failure() const {
    TemporaryFolder out;
    try {
      convert_folder(path(), out.file("m.lap"));
    } catch (const Error& e) {
      EXPECT_TRUE(fs::is_empty(out.path())) << "output left behind after: " << e.what();
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
      return e.what();
    }
    ADD_FAILURE() << "converted without an Error";
    return {};
  }

 private:
  std::string fixture_;
  TemporaryFolder folder_;
};

Copy::Tensor& tensor_named(std::vector<Copy::Tensor>& tensors, const std::string& name) {
  for (auto& t : tensors)
    if (t.name == name) return t;
  throw std::runtime_error("no tensor " + name);
}

void expect_mentions(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "message: " << message;
}

TEST(Convert, EveryStoredByteOfTheTextModelArrives) {
  for (const char* fixture : kFixtures) {
    SCOPED_TRACE(fixture);
    TemporaryFolder out;
    const auto report = convert_folder(data_path(fixture), out.file("m.lap"));
    const auto lap = LapReader::open(out.file("m.lap"));
    const auto set = SafetensorsSet::open_folder(data_path(fixture));
    size_t n_copied = 0;
    for (const auto& entry : set.entries()) {
      const LapTensor* t = lap->find(canonical(entry.name));
      if (!t) continue;
      ++n_copied;
      std::vector<uint8_t> bytes(entry.bytes);
      set.read(entry, 0, bytes);
      const auto stored = lap->data(*t);
      ASSERT_EQ(stored.size(), bytes.size()) << t->name;
      ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), stored.begin())) << t->name;
    }
    EXPECT_EQ(n_copied, lap->index().size());
    EXPECT_EQ(report.n_tensors, static_cast<int64_t>(n_copied));
    EXPECT_EQ(report.content_hash, lap->content_hash());
    EXPECT_EQ(report.file_bytes, fs::file_size(out.file("m.lap")));
    EXPECT_TRUE(lap->verify(Events{}).empty());
    EXPECT_EQ(provenance_from_json(lap->metadata().provenance).source_hash, lap->content_hash());
    EXPECT_EQ(provenance_from_json(lap->metadata().provenance).source_name, fixture);
  }
}

TEST(Convert, BothConfigDialectsGiveTheSameBytes) {
  for (const char* fixture : {"nano-e", "tiny-gemma3", "tiny-llama3", "tiny-qwen3"}) {
    TemporaryFolder out;
    convert_folder(data_path(fixture), out.file("a.lap"));
    convert_folder(data_path(fixture), out.file("b.lap"), "config.flat.json");
    EXPECT_EQ(read_text(out.file("a.lap")), read_text(out.file("b.lap"))) << fixture;
  }
}

TEST(Convert, LargerFixturesConvertInBothDialects) {
  for (const char* fixture : {"small-dense", "small-moe"}) {
    const std::string folder = shared_path(std::string("checkpoints/") + fixture);
    LAPIDARY_SKIP_WITHOUT(folder);
    TemporaryFolder out;
    const auto a = convert_folder(folder, out.file("a.lap"));
    const auto b = convert_folder(folder, out.file("b.lap"), "config.flat.json");
    EXPECT_EQ(a.content_hash, b.content_hash);
    EXPECT_EQ(read_text(out.file("a.lap")), read_text(out.file("b.lap"))) << fixture;
  }
}

TEST(Convert, TowersAndSharedKvAreNamedAsLeftOut) {
  const auto omni = HfSource::open(data_path("tiny-gemma4-omni"));
  std::string all;
  for (const std::string& line : omni->skipped()) all += line + "\n";
  for (const char* part : {"vision_tower", "audio_tower", "embed_vision", "embed_audio"})
    expect_mentions(all, part);

  const auto nano = HfSource::open(data_path("nano-e"));
  for (const SourceTensor& t : nano->tensors())
    EXPECT_EQ(t.name.find("layers.9.self_attn.k_"), std::string::npos) << t.name;
}

TEST(Convert, StoredKvOfSharingLayersIsLeftOut) {
  const Copy copy("nano-e");
  copy.edit_weights([](auto& tensors) {
    auto extra = tensor_named(tensors, "model.layers.4.self_attn.k_proj.weight");
    extra.name = "model.layers.9.self_attn.k_proj.weight";
    tensors.push_back(extra);
  });
  const auto source = HfSource::open(copy.path());
  ASSERT_EQ(source->skipped().size(), 1u);
  expect_mentions(source->skipped()[0], "1 tensor");
}

TEST(Convert, MlxOrderOfPrefixesIsUnderstood) {
  const Copy copy("nano-e");
  copy.edit_weights([](auto& tensors) {
    for (auto& t : tensors) t.name = "language_model." + t.name;
  });
  EXPECT_EQ(HfSource::open(copy.path())->tensors().size(),
            HfSource::open(data_path("nano-e"))->tensors().size());
}

TEST(Convert, FloatTypesAreKeptAsTheyAre) {
  const Copy copy("tiny-qwen3");
  copy.edit_weights([](auto& tensors) {
    for (const auto& [name, dtype, code] :
         {std::tuple{"model.norm.weight", DType::kF32, Code::kF32},
          std::tuple{"model.layers.0.self_attn.q_proj.weight", DType::kF16, Code::kF16}}) {
      auto& t = tensor_named(tensors, name);
      std::vector<float> values(t.bytes.size() / 2);
      decode_floats(Code::kBF16, t.bytes, values);
      t.dtype = dtype;
      t.bytes.resize(values.size() * static_cast<size_t>(dtype_bytes(dtype)));
      encode_floats(code, values, t.bytes);
    }
  });
  TemporaryFolder out;
  convert_folder(copy.path(), out.file("m.lap"));
  const auto lap = LapReader::open(out.file("m.lap"));
  EXPECT_EQ(lap->find("model.norm.weight")->code, Code::kF32);
  EXPECT_EQ(lap->find("model.layers.0.self_attn.q_proj.weight")->code, Code::kF16);
  EXPECT_EQ(lap->find("model.embed_tokens.weight")->code, Code::kBF16);
}

TEST(Convert, ADuplicatedTiedHeadIsDroppedAndADifferentOneRefused) {
  const Copy copy("tiny-qwen3");
  copy.edit_weights([](auto& tensors) {
    auto head = tensor_named(tensors, "model.embed_tokens.weight");
    head.name = "lm_head.weight";
    tensors.push_back(head);
  });
  const auto source = HfSource::open(copy.path());
  ASSERT_EQ(source->skipped().size(), 1u);
  expect_mentions(source->skipped()[0], "lm_head");

  const Copy other("tiny-qwen3");
  other.edit_weights([](auto& tensors) {
    auto head = tensor_named(tensors, "model.embed_tokens.weight");
    head.name = "lm_head.weight";
    head.bytes.back() ^= 1;
    tensors.push_back(head);
  });
  expect_mentions(other.failure(), "lm_head.weight");
}

TEST(Convert, StopTokensOfGenerationConfigComeFirst) {
  const auto source = HfSource::open(data_path("nano-e"));
  EXPECT_EQ(source->metadata().config.eos_ids, (std::vector<int32_t>{1, 6, 14}));
  expect_mentions(source->metadata().generation_config, "\"top_k\":64");
  expect_mentions(source->metadata().chat_template, "<|turn>");
}

TEST(Convert, ChatTemplatesOfTokenizerConfigAreFound) {
  const Copy copy("tiny-qwen3");
  copy.edit_json("tokenizer_config.json", [](Json& j) { j["chat_template"] = "one"; });
  EXPECT_EQ(HfSource::open(copy.path())->metadata().chat_template, "one");
  copy.edit_json("tokenizer_config.json", [](Json& j) {
    j["chat_template"] = {{{"name", "tool_use"}, {"template", "two"}},
                          {{"name", "default"}, {"template", "three"}}};
  });
  EXPECT_EQ(HfSource::open(copy.path())->metadata().chat_template, "three");
}

TEST(Convert, AddBosTokenIsWrittenIntoATokenizerWithoutIt) {
  const Copy copy("tiny-qwen3");
  copy.edit_json("tokenizer.json", [](Json& j) { j["post_processor"] = nullptr; });
  copy.edit_json("tokenizer_config.json", [](Json& j) {
    j["bos_token"] = {{"content", "<bos>"}};
    j["add_bos_token"] = true;
  });
  const Json tokenizer = Json::parse(HfSource::open(copy.path())->tokenizer_json());
  EXPECT_EQ(tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"], "<bos>");
}

// --- folders that are not whole or not sound ---

TEST(Convert, AMissingFolderConfigOrTokenizerIsNamed) {
  EXPECT_THROW(HfSource::open("/no/such/folder"), Error);
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"}) {
    const Copy copy("tiny-qwen3");
    fs::remove(copy.at(name));
    expect_mentions(copy.failure(), name);
  }
}

TEST(Convert, AMissingShardIsNamed) {
  const Copy copy("tiny-llama3");
  fs::remove(copy.at("model-00002-of-00004.safetensors"));
  expect_mentions(copy.failure(), "model-00002-of-00004.safetensors");
}

TEST(Convert, AMissingTensorIsNamed) {
  const Copy copy("tiny-qwen3");
  copy.edit_weights([](auto& tensors) {
    std::erase_if(tensors, [](const auto& t) { return t.name == "model.norm.weight"; });
  });
  expect_mentions(copy.failure(), "model.norm.weight");
}

TEST(Convert, AnUnknownTensorIsNamed) {
  const Copy copy("tiny-qwen3");
  copy.edit_weights([](auto& tensors) {
    tensor_named(tensors, "model.norm.weight").name = "model.normal.weight";
  });
  expect_mentions(copy.failure(), "model.normal.weight");
}

TEST(Convert, AWrongShapeIsNamedWithBothShapes) {
  const Copy copy("tiny-qwen3");
  copy.edit_weights([](auto& tensors) {
    auto& t = tensor_named(tensors, "model.layers.1.self_attn.q_proj.weight");
    std::swap(t.shape[0], t.shape[1]);
  });
  const std::string message = copy.failure();
  expect_mentions(message, "model.layers.1.self_attn.q_proj.weight");
  expect_mentions(message, "[64, 128]");
  expect_mentions(message, "[128, 64]");
}

TEST(Convert, AnUnsupportedDtypeIsNamed) {
  const Copy copy("tiny-qwen3");
  copy.edit_weights([](auto& tensors) {
    auto& t = tensor_named(tensors, "model.norm.weight");
    t.dtype = DType::kI8;
    t.bytes.resize(t.bytes.size() / 2);
  });
  const std::string message = copy.failure();
  expect_mentions(message, "model.norm.weight");
  expect_mentions(message, "I8");
}

TEST(Convert, NanAndInfinityAreFoundInEveryFloatType) {
  // The first, a middle and the last value of a matrix; NaN and infinity.
  for (const uint16_t bits : {0x7f80, 0xff80, 0x7fc0}) {
    for (const size_t at : {size_t{0}, size_t{4099}, size_t{8191}}) {
      const Copy copy("tiny-qwen3");
      copy.edit_weights([&](auto& tensors) {
        auto& t = tensor_named(tensors, "model.layers.2.self_attn.q_proj.weight");
        std::memcpy(t.bytes.data() + 2 * at, &bits, 2);
      });
      expect_mentions(copy.failure(), "model.layers.2.self_attn.q_proj.weight");
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<uint8_t> raw(8 * 4);
  std::vector<float> values(8, 1.0f);
  for (const Code code : {Code::kF32, Code::kF16, Code::kBF16}) {
    values[5] = 1.0f;
    const auto bytes = std::span(raw).first(values.size() * traits(code).bits / 8);
    encode_floats(code, values, bytes);
    EXPECT_FALSE(has_nonfinite(code, bytes));
    values[5] = -infinity;
    encode_floats(code, values, bytes);
    EXPECT_TRUE(has_nonfinite(code, bytes));
  }
}

TEST(Convert, TheSameTensorUnderTwoNamesIsRefused) {
  const Copy copy("nano-e");
  copy.edit_weights([](auto& tensors) {
    auto twice = tensor_named(tensors, "model.norm.weight");
    twice.name = "model.language_model.norm.weight";
    tensors.push_back(twice);
  });
  expect_mentions(copy.failure(), "norm.weight");
}

TEST(Convert, ATokenizerLargerThanTheVocabularyIsRefused) {
  const Copy copy("tiny-qwen3");
  copy.edit_json("tokenizer.json", [](Json& j) { j["model"]["vocab"]["a new piece"] = 8192; });
  expect_mentions(copy.failure(), "tokenizer");
}

TEST(Convert, BrokenCompanionFilesAreNamed) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    const Copy copy("nano-e");
    std::ofstream(copy.at(name)) << "{";
    expect_mentions(copy.failure(), name);
  }
}

TEST(Convert, CancellingLeavesNothingBehind) {
  TemporaryFolder out;
  std::atomic<bool> cancelled{true};
  Events events;
  events.cancelled = &cancelled;
  const auto source = HfSource::open(data_path("tiny-qwen3"));
  EXPECT_THROW(convert(*source, out.file("m.lap"), events), Error);
  EXPECT_TRUE(fs::is_empty(out.path()));
}

}  // namespace
}  // namespace lapidary
