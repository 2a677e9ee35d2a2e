// A .lap gives back what was written: bytes, floats, metadata, identity; in every layout.
#include "formats/lap.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/lap_rows.h"
#include "tests/formats/lap_fixture.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

std::vector<uint8_t> bytes_of(std::span<const uint8_t> span) { return {span.begin(), span.end()}; }

TEST(Lap, ReturnsMetadataTokenizerAndTensorsAsWritten) {
  const TemporaryFolder folder;
  const std::string path = folder.file("m.lap");
  const ModelMetadata metadata = small_metadata();
  const std::vector<uint8_t> tables(5000, 7);
  const std::vector<LapTensor> tensors = small_tensors();
  const std::string hash = write_small_lap(path, tensors, metadata, {kTokenizerText, tables});

  const auto reader = LapReader::open(path);
  EXPECT_EQ(reader->metadata().config, metadata.config);
  EXPECT_EQ(reader->metadata().chat_template, metadata.chat_template);
  EXPECT_EQ(reader->metadata().generation_config, metadata.generation_config);
  EXPECT_EQ(reader->metadata().recipe, metadata.recipe);
  EXPECT_EQ(reader->metadata().provenance, metadata.provenance);
  EXPECT_EQ(reader->tokenizer_json(), kTokenizerText);
  EXPECT_EQ(bytes_of(reader->tokenizer_tables()), tables);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(reader->tokenizer_tables().data()) % 4096, 0u);
  EXPECT_EQ(reader->content_hash(), hash);
  EXPECT_EQ(reader->file_bytes(), std::filesystem::file_size(path));
  ASSERT_EQ(reader->index().size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const LapTensor& t = reader->index()[i];
    EXPECT_EQ(t.name, tensors[i].name);
    EXPECT_EQ(t.shape, tensors[i].shape);
    EXPECT_EQ(t.code, tensors[i].code);
    EXPECT_EQ(t.layout, tensors[i].layout);
    EXPECT_EQ(t.rotated, tensors[i].rotated);
    EXPECT_EQ(t.record_width, tensors[i].record_width);
    EXPECT_EQ(reader->find(t.name), &t);
    EXPECT_EQ(bytes_of(reader->data(t)), random_content(t, static_cast<uint32_t>(i)));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(reader->data(t).data()) % 64, 0u);
  }
  EXPECT_EQ(reader->find("model.norm"), nullptr);
  EXPECT_TRUE(reader->verify({}).empty());
}

TEST(Lap, LargeTensorsStartOnAPage) {
  const TemporaryFolder folder;
  write_small_lap(folder.file("m.lap"),
                  {plain_tensor("a", {3}, Code::kF32), plain_tensor("b", {64, 512}, Code::kBF16),
                   plain_tensor("c", {3}, Code::kF32)});
  const auto reader = LapReader::open(folder.file("m.lap"));
  EXPECT_EQ(reader->find("b")->offset % 4096, 0u);
  EXPECT_EQ(reader->find("c")->offset % 64, 0u);
  EXPECT_NE(reader->find("c")->offset % 4096, 64u);
}

TEST(Lap, PanelsWrittenPieceByPieceGiveTheSameFile) {
  const TemporaryFolder folder;
  const std::vector<LapTensor> tensors = {panel_tensor("stack", {3, 40, 96}, Code::kW3, true)};
  const std::string whole = write_small_lap(folder.file("whole.lap"), tensors);
  const std::vector<uint8_t> content = random_content(tensors[0], 0);
  const PackedGeometry g = packed_geometry(Code::kW3, 40, 96);
  const std::span<const uint8_t> codes(content.data(), static_cast<size_t>(3 * g.code_bytes));
  const std::span<const uint8_t> meta = std::span(content).subspan(codes.size());
  LapWriter writer(folder.file("pieces.lap"), small_metadata(), {}, tensors);
  for (int64_t expert = 0; expert < 3; ++expert)
    for (int64_t panel = 0; panel < g.n_panels;) {
      const int64_t count = panel == 0 ? 2 : 1;  // a run of two, then the last
      const size_t at = static_cast<size_t>(expert * g.n_panels + panel);
      writer.write_panels(0, expert, panel,
                          codes.subspan(at * static_cast<size_t>(g.panel_code_bytes),
                                        static_cast<size_t>(count * g.panel_code_bytes)),
                          meta.subspan(at * static_cast<size_t>(g.panel_meta_bytes),
                                       static_cast<size_t>(count * g.panel_meta_bytes)));
      panel += count;
    }
  EXPECT_EQ(writer.content_hash(), whole);
  EXPECT_EQ(writer.commit(), whole);
  EXPECT_EQ(read_text(folder.file("pieces.lap")), read_text(folder.file("whole.lap")));
}

TEST(Lap, MatrixViewsPointAtTheExpertsPanels) {
  const TemporaryFolder folder;
  write_small_lap(folder.file("m.lap"), {panel_tensor("stack", {3, 40, 96}, Code::kW4),
                                         plain_tensor("plain", {2, 4, 8}, Code::kBF16)});
  const auto reader = LapReader::open(folder.file("m.lap"));
  const PackedGeometry g = packed_geometry(Code::kW4, 40, 96);
  const LapTensor& stack = *reader->find("stack");
  const MatrixView view = reader->matrix(stack, 2);
  EXPECT_EQ(view.rows, 40);
  EXPECT_EQ(view.k, 96);
  EXPECT_EQ(view.codes, reader->data(stack).data() + 2 * g.code_bytes);
  EXPECT_EQ(view.meta, reader->data(stack).data() + 3 * g.code_bytes + 2 * g.meta_bytes);
  const MatrixView plain = reader->matrix(*reader->find("plain"), 1);
  EXPECT_EQ(plain.codes, reader->data(*reader->find("plain")).data() + 4 * 8 * 2);
  EXPECT_EQ(plain.meta, nullptr);
}

// The weight at (row, k) of stored panels before any rotation, straight from the definition.
float stored_weight(const LapTensor& t, std::span<const uint8_t> content, int64_t row, int64_t k) {
  const size_t n = t.shape.size();
  const int64_t rows = t.shape[n - 2], experts = n == 3 ? t.shape[0] : 1;
  const PackedGeometry g = packed_geometry(t.code, rows, t.shape[n - 1]);
  const size_t panel = static_cast<size_t>(row / rows * g.n_panels + row % rows / 16);
  const size_t code_bytes = static_cast<size_t>(g.panel_code_bytes);
  const size_t meta_bytes = static_cast<size_t>(g.panel_meta_bytes);
  const PanelIntegers p =
      unpack_panel(g, content.subspan(panel * code_bytes, code_bytes),
                   content.subspan(static_cast<size_t>(experts * g.code_bytes) + panel * meta_bytes,
                                   meta_bytes));
  const int64_t r = row % rows % 16;
  const int integer = panel_weights(g, p)[static_cast<size_t>(r * g.padded_k + k)];
  const int64_t block = k / traits(t.code).scale_k;
  return static_cast<float>(integer) *
         scale_to_float(t.scale_type, p.scales[static_cast<size_t>(r * g.n_scale_blocks + block)]);
}

TEST(Lap, ReadsRowsOfPanelsAsScaleTimesMultiplierTimesLevel) {
  const TemporaryFolder folder;
  for (const Code code : {Code::kW8, Code::kW6, Code::kW5, Code::kW4, Code::kW3, Code::kW4x,
                          Code::kW8x, Code::kT3, Code::kT6}) {
    LapTensor tensor = panel_tensor("t", {2, 33, 96}, code);
    if (code == Code::kW4x) tensor.scale_type = ScaleType::kBF16;
    write_small_lap(folder.file("m.lap"), {tensor});
    const auto reader = LapReader::open(folder.file("m.lap"));
    const std::vector<uint8_t> content = random_content(tensor, 0);
    std::vector<float> rows(40 * 96);
    reader->read_rows(0, 20, 40, rows);  // the end of one expert and the beginning of the next
    for (int64_t i = 0; i < 40; ++i)
      for (int64_t k = 0; k < 96; ++k)
        ASSERT_EQ(rows[static_cast<size_t>(i * 96 + k)], stored_weight(tensor, content, 20 + i, k))
            << code_name(code) << " row " << 20 + i << " k " << k;
  }
}

// y = W x must not depend on whether both sides are rotated: W' (H D x / 8) = (rows read) x.
TEST(Lap, ReadingUndoesTheRotation) {
  const TemporaryFolder folder;
  const LapTensor tensor = panel_tensor("t", {5, 128}, Code::kW6, true);
  write_small_lap(folder.file("m.lap"), {tensor});
  const auto reader = LapReader::open(folder.file("m.lap"));
  const std::vector<uint8_t> content = random_content(tensor, 0);
  std::vector<float> rows(5 * 128);
  reader->read_rows(0, 0, 5, rows);
  std::mt19937 random(1);
  std::vector<double> x(128), rotated(128);
  for (double& v : x) v = static_cast<double>(random() % 1000) / 500 - 1;
  for (int i = 0; i < 128; ++i)  // H[i][j] = (-1)^popcount(i & j)
    for (int j = 0; j < 64; ++j) {
      const double sign = (kRotationSigns >> j) & 1 ? -1 : 1;
      const double h = std::popcount(static_cast<unsigned>(i % 64 & j)) % 2 ? -1 : 1;
      rotated[static_cast<size_t>(i)] += h * sign * x[static_cast<size_t>(i / 64 * 64 + j)] / 8;
    }
  for (int64_t r = 0; r < 5; ++r) {
    double direct = 0, by_rotation = 0, size = 0;
    for (int64_t k = 0; k < 128; ++k) {
      direct +=
          static_cast<double>(rows[static_cast<size_t>(r * 128 + k)]) * x[static_cast<size_t>(k)];
      const double term = static_cast<double>(stored_weight(tensor, content, r, k)) *
                          rotated[static_cast<size_t>(k)];
      by_rotation += term;
      size += std::abs(term);
    }
    // Six float32 additions per weight, each off by at most half a unit in 24 bits.
    EXPECT_NEAR(direct, by_rotation, 8 * 6 * size * std::ldexp(1.0, -24));
  }
}

TEST(Lap, ReadsRowTablesAndPlainTensors) {
  const TemporaryFolder folder;
  const std::vector<LapTensor> tensors = small_tensors();
  write_small_lap(folder.file("m.lap"), tensors);
  const auto reader = LapReader::open(folder.file("m.lap"));
  const std::vector<uint8_t> content = random_content(tensors[4], 4);
  const RowTableGeometry g = row_table_geometry(Code::kW5, 5, 2, 40);
  std::vector<float> expected(2 * 80), rows(2 * 80);
  for (size_t i = 0; i < 4; ++i)
    unpack_record(g, ScaleType::kF16,
                  std::span(content).subspan((6 + i) * static_cast<size_t>(g.record_bytes),
                                             static_cast<size_t>(g.record_bytes)),
                  std::span(expected).subspan(i * 40, 40));
  reader->read_rows(4, 3, 2, rows);
  EXPECT_EQ(rows, expected);

  std::vector<uint8_t> raw(3 * 4 * 2);
  reader->read_raw(1, 5, 3, raw);
  const std::vector<uint8_t> embed = random_content(tensors[1], 1);
  EXPECT_EQ(raw, std::vector<uint8_t>(embed.begin() + 5 * 8, embed.begin() + 8 * 8));
  std::vector<float> norm(4);
  decode_floats(Code::kF32, random_content(tensors[0], 0), norm);
  EXPECT_EQ(reader->floats(reader->index()[0]), norm);
}

TEST(Lap, NamesTheTensorThatHoldsNaN) {
  const TemporaryFolder folder;
  LapWriter writer(folder.file("m.lap"), small_metadata(), {},
                   {plain_tensor("a", {2, 2}, Code::kF32)});
  const float values[] = {1, 2, 3, NAN};
  writer.append(0, {reinterpret_cast<const uint8_t*>(values), sizeof values});
  writer.commit();
  const auto reader = LapReader::open(folder.file("m.lap"));
  std::vector<float> row(2);
  reader->read_rows(0, 0, 1, row);
  try {
    reader->read_rows(0, 1, 1, row);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    EXPECT_NE(std::string(e.what()).find("a: row 1"), std::string::npos) << e.what();
  }
}

TEST(Lap, IdentityIgnoresOrderAndMetadataButNotWeights) {
  const TemporaryFolder folder;
  const std::vector<LapTensor> tensors = small_tensors();
  const std::string hash = write_small_lap(folder.file("a.lap"), tensors);
  ModelMetadata other = small_metadata();
  other.chat_template = "x";
  LapWriter writer(folder.file("b.lap"), other, {}, {tensors[1], tensors[0]});
  writer.append(0, random_content(tensors[1], 1));
  writer.append(1, random_content(tensors[0], 0));
  LapWriter same(folder.file("c.lap"), small_metadata(), {}, {tensors[0], tensors[1]});
  same.append(1, random_content(tensors[1], 1));
  same.append(0, random_content(tensors[0], 0));
  const std::string two = same.commit();
  EXPECT_EQ(writer.commit(), two);
  EXPECT_NE(two, hash);
}

TEST(Lap, ProvenanceCanBeReplacedByTextOfTheSameLength) {
  const TemporaryFolder folder;
  LapWriter writer(folder.file("m.lap"), small_metadata(), {},
                   {plain_tensor("a", {1}, Code::kF32)});
  writer.append(0, std::vector<uint8_t>(4));
  writer.replace_provenance("{\"tool\":\"lapidary 9.9.9\"}");
  writer.commit();
  EXPECT_EQ(LapReader::open(folder.file("m.lap"))->metadata().provenance,
            "{\"tool\":\"lapidary 9.9.9\"}");
}

TEST(Lap, AnUnfinishedFileIsNeverThere) {
  const TemporaryFolder folder;
  {
    LapWriter writer(folder.file("m.lap"), small_metadata(), {}, small_tensors());
    writer.append(0, std::vector<uint8_t>(16));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

void expect_refused(std::vector<LapTensor> tensors, const std::string& why) {
  const TemporaryFolder folder;
  try {
    LapWriter writer(folder.file("m.lap"), small_metadata(), {}, std::move(tensors));
    FAIL() << "accepted: " << why;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Lap, TheWriterRefusesSpecificationsThatDoNotFit) {
  const auto f32 = [](std::vector<int64_t> shape) {
    return plain_tensor("t", std::move(shape), Code::kF32);
  };
  expect_refused({f32({1}), f32({2})}, "twice");
  expect_refused({}, "0 tensors");
  expect_refused({f32({})}, "1 to 3 dimensions");
  expect_refused({f32({2, 2, 2, 2})}, "1 to 3 dimensions");
  expect_refused({f32({2, 0})}, "empty or too large");
  expect_refused({f32({2, -1})}, "empty or too large");
  expect_refused({f32({int64_t{1} << 40, int64_t{1} << 40})}, "empty or too large");
  expect_refused({plain_tensor("t", {2, 64}, Code::kW4)}, "float code");
  expect_refused({panel_tensor("t", {64}, Code::kW4)}, "2 dimensions");
  expect_refused({panel_tensor("t", {2, 64}, Code::kBF16)}, "packed code");
  expect_refused({plain_tensor("", {1}, Code::kF32)}, "name");
  expect_refused({plain_tensor("a b", {1}, Code::kF32)}, "name");
  LapTensor table = table_tensor("t", 2, 3, 8, Code::kW4);
  table.record_width = 7;
  expect_refused({table}, "record width");
  LapTensor rotated = f32({4, 64});
  rotated.rotated = true;
  expect_refused({rotated}, "rotated");
  LapTensor bf16_scales = panel_tensor("t", {2, 64}, Code::kW4);
  bf16_scales.scale_type = ScaleType::kBF16;
  expect_refused({bf16_scales}, "bf16 scales");
}

TEST(Lap, BitsPerWeightCountScalesAndPadding) {
  const TemporaryFolder folder;
  write_small_lap(folder.file("m.lap"), {panel_tensor("a", {16, 512}, Code::kW4),
                                         plain_tensor("b", {16, 512}, Code::kBF16)});
  EXPECT_DOUBLE_EQ(LapReader::open(folder.file("m.lap"))->bits_per_weight(), (4.1875 + 16) / 2);
}

}  // namespace
}  // namespace lapidary
