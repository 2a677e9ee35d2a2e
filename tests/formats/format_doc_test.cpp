// docs/format.md must not drift from the code: its hexdump and its table of bits per weight are
// made here and compared with the text.
#include <gtest/gtest.h>

#include "formats/lap.h"
#include "tests/formats/lap_fixture.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

// The file that docs/format.md walks through: a norm of four floats and a w4 matrix [2, 64] whose
// first row counts up from 0 to 15 twice and then down twice, and whose second row is zero.
std::string example_file() {
  const TemporaryFolder folder;
  const std::vector<LapTensor> tensors = {plain_tensor("norm", {4}, Code::kF32),
                                          panel_tensor("proj", {2, 64}, Code::kW4)};
  ModelMetadata metadata = small_metadata();
  metadata.chat_template.clear();
  metadata.generation_config.clear();
  LapWriter writer(folder.file("m.lap"), metadata, {}, tensors);
  const std::vector<float> norm = {1.0f, 2.0f, -0.5f, 0.0f};
  std::vector<uint8_t> norm_bytes(16);
  encode_floats(Code::kF32, norm, norm_bytes);
  writer.append(0, norm_bytes);
  const PackedGeometry g = packed_geometry(Code::kW4, 2, 64);
  PanelIntegers panel(g);
  for (size_t k = 0; k < 64; ++k)
    panel.indices[k] = static_cast<uint8_t>(k < 32 ? k % 16 : 15 - k % 16);
  panel.multipliers[0] = 3;
  panel.multipliers[1] = -2;
  panel.scales[0] = 0x3c00;  // 1.0
  std::vector<uint8_t> codes(static_cast<size_t>(g.panel_code_bytes));
  std::vector<uint8_t> meta(static_cast<size_t>(g.panel_meta_bytes));
  pack_panel(g, panel, codes, meta);
  writer.write_panels(1, 0, 0, codes, meta);
  writer.commit();
  return read_text(folder.file("m.lap"));
}

// As `hexdump -C` prints it, runs of equal lines shortened to "*".
std::string hexdump(const std::string& bytes) {
  std::string out, previous;
  bool in_run = false;
  for (size_t at = 0; at < bytes.size(); at += 16) {
    const std::string line = bytes.substr(at, 16);
    if (line == previous && line.size() == 16) {
      if (!in_run) out += "*\n";
      in_run = true;
      continue;
    }
    in_run = false;
    previous = line;
    out += fmt::format("{:08x} ", at);
    for (size_t i = 0; i < 16; ++i) {
      if (i % 8 == 0) out += ' ';
      out += i < line.size() ? fmt::format("{:02x} ", static_cast<uint8_t>(line[i])) : "   ";
    }
    out += " |";
    for (const char c : line) out += c >= ' ' && c <= '~' ? c : '.';
    out += "|\n";
  }
  return out + fmt::format("{:08x}\n", bytes.size());
}

std::string bits_row(Code code) {
  const auto bits = [&](int64_t k) {
    const PackedGeometry g = packed_geometry(code, 16, k);
    return fmt::format("{:.6g}", 8.0 * static_cast<double>(g.code_bytes + g.meta_bytes) /
                                     static_cast<double>(16 * k));
  };
  const RowTableGeometry record = row_table_geometry(code, 1, 1, 256);
  return fmt::format("| {} | {} | {} | {} | {} | {:.6g} |", code_name(code), bits(64), bits(256),
                     bits(512), bits(704), 8.0 * static_cast<double>(record.record_bytes) / 256);
}

std::string document() { return read_text(source_path("docs/format.md")); }

TEST(FormatDoc, HexdumpIsWhatTheWriterWrites) {
  const std::string dump = "```hexdump\n" + hexdump(example_file()) + "```\n";
  EXPECT_NE(document().find(dump), std::string::npos) << "docs/format.md should hold:\n" << dump;
}

TEST(FormatDoc, BitsPerWeightAreThoseOfTheGeometry) {
  const std::string text = document();
  for (const Code code : {Code::kW8, Code::kW6, Code::kW5, Code::kW4, Code::kW3, Code::kW4x,
                          Code::kW8x, Code::kT3, Code::kT4, Code::kT5, Code::kT6})
    EXPECT_NE(text.find(bits_row(code) + "\n"), std::string::npos)
        << "docs/format.md should hold: " << bits_row(code);
}

}  // namespace
}  // namespace lapidary
