// READMEs and Modelfiles say what was done, by whose leave, and what was measured.
#include "export/model_card.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "export/gguf_export.h"
#include "export/modelfile.h"
#include "formats/error.h"
#include "formats/file.h"
#include "formats/provenance.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

constexpr const char* kReport =
    R"({"verdict": "PASS", "text": {"nll_base": 2.5, "nll_candidate": 2.51, "kld_mean": 0.0041,
        "top1_agreement": 0.97}, "tasks": {"sort": {"items": 400, "base": 0.9, "candidate": 0.89}}})";

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ModelCard, CarriesTheLicenceFromTheSourcesCard) {
  TemporaryFolder folder;
  fs::copy(data_path("tiny-qwen3"), folder.file("source"), fs::copy_options::recursive);
  std::ofstream(folder.file("source/README.md"))
      << "---\nlanguage: en\nlicense: gemma\nlicense_link: \"https://example.org/terms\"\n---\n"
         "license: not this\n";
  convert(*HfSource::open(folder.file("source")), folder.file("m.lap"), Events{});
  const auto model = LapReader::open(folder.file("m.lap"));
  const std::string card = model_card(model->metadata(), {});
  EXPECT_TRUE(has(card, "license: \"gemma\"\nlicense_link: \"https://example.org/terms\"\n---"))
      << card;
  EXPECT_FALSE(has(card, "not this"));
}

TEST(ModelCard, ShowsTheVerdictAndThatRoundingCameLater) {
  ModelMetadata metadata;
  metadata.recipe = "{}";
  metadata.provenance = to_json(Provenance{});
  ModelCard card;
  card.verify_report = kReport;
  const std::string exact = model_card(metadata, card);
  EXPECT_TRUE(has(exact, "**PASS**")) << exact;
  EXPECT_TRUE(has(exact, "| text, nats per token | 2.5000 | 2.5100 | mean KLD 0.00410"));
  EXPECT_TRUE(has(exact, "| sort | 90.0 % | 89.0 % | 400 items |"));
  EXPECT_FALSE(has(exact, "before the roundings"));
  card.lossy_steps = {"weights were rounded"};
  EXPECT_TRUE(has(model_card(metadata, card), "before the roundings"));
  for (const char* broken :
       {"no json", "{}", R"({"verdict": 3})", R"({"verdict":"PASS","text":{}})"}) {
    card.verify_report = broken;
    EXPECT_THROW(model_card(metadata, card), Error) << broken;
  }
}

TEST(Modelfile, StandsBesideTheGgufWithTemplateStopsAndSampling) {
  TemporaryFolder folder;
  convert(*HfSource::open(data_path("nano-e")), folder.file("m.lap"), Events{});
  const auto model = LapReader::open(folder.file("m.lap"));
  export_gguf(*model, folder.file("nano.gguf"), {}, Events{});
  const std::string text = read_text(folder.file("nano.Modelfile"));
  EXPECT_TRUE(has(text, "FROM ./nano.gguf\n")) << text;
  EXPECT_TRUE(has(text, "TEMPLATE \"\"\"{{- range .Messages }}<|turn>")) << text;
  EXPECT_TRUE(has(text, "PARAMETER stop \"<turn|>\"")) << text;
  EXPECT_TRUE(
      has(read_text(folder.file("nano.README.md")), "ollama create nano -f nano.Modelfile"));
}

TEST(Modelfile, AnUnknownGrammarIsLeftToTheGguf) {
  TemporaryFolder folder;
  convert(*HfSource::open(data_path("tiny-qwen3")), folder.file("m.lap"), Events{});
  const auto model = LapReader::open(folder.file("m.lap"));  // has no chat template
  const std::string text = ollama_modelfile(*model, "m.gguf");
  EXPECT_FALSE(has(text, "TEMPLATE")) << text;
}

}  // namespace
}  // namespace lapidary
