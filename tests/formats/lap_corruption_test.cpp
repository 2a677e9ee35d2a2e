// Damaged and hostile .lap files: accidents are found by hashes, malice by the checks behind them.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "formats/lap.h"
#include "formats/lap_layout.h"
#include "formats/lap_metadata.h"
#include "tests/formats/lap_fixture.h"
#include "tests/formats/lap_reseal.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

using Bytes = std::vector<uint8_t>;

class LapCorruption : public testing::Test {
 protected:
  LapCorruption() {
    const Bytes tables(1000, 7);
    write_small_lap(path_, small_tensors(), small_metadata(), {kTokenizerText, tables});
    const std::string text = read_text(path_);
    good_.assign(text.begin(), text.end());
    header_ = decode_header(good_, good_.size());
  }

  void write(const Bytes& bytes) const {
    // Not AtomicFile: thousands of fsyncs would take minutes.
    std::ofstream(path_, std::ios::binary | std::ios::trunc)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
  }
  // The message of the error that opening gives; empty when the file opens.
  std::string error_of(const Bytes& bytes) const {
    write(bytes);
    return open_error();
  }
  std::string open_error() const {
    try {
      LapReader::open(path_);
      return {};
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadData) << e.what();
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
      return e.what();
    }
  }
  // Opening must fail for the reason `why` when `change` was made and all hashes fit.
  void expect_refused(const std::string& why, const std::function<void(Bytes&)>& change) const {
    Bytes bytes = good_;
    change(bytes);
    reseal_lap(bytes);
    const std::string error = error_of(bytes);
    EXPECT_NE(error.find(why), std::string::npos) << "expected \"" << why << "\", got: " << error;
  }
  template <class T>
  static void poke(Bytes& bytes, size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }
  size_t record(size_t tensor, size_t field) const {
    return header_.sections[kIndex].offset + tensor * kLapRecordBytes + field;
  }
  template <class T>
  void expect_field_refused(const std::string& why, size_t tensor, size_t field, T value) const {
    expect_refused(why, [&](Bytes& bytes) { poke(bytes, record(tensor, field), value); });
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("m.lap");
  Bytes good_;
  LapHeader header_;
};

TEST_F(LapCorruption, IsRefusedWhenTruncatedAtAnyByte) {
  ASSERT_LT(good_.size(), 64u * 1024);
  for (size_t size = good_.size(); size-- > 0;) {
    std::filesystem::resize_file(path_, size);
    ASSERT_NE(open_error().find("header"), std::string::npos) << "at " << size << " bytes";
  }
}

TEST_F(LapCorruption, IsRefusedWhenBytesWereAdded) {
  Bytes longer = good_;
  longer.push_back(0);
  EXPECT_NE(error_of(longer).find("header: the file should have"), std::string::npos);
}

TEST_F(LapCorruption, EveryFlippedBitIsFound) {
  std::mt19937 random(2000);
  size_t in_data = 0;
  for (int i = 0; i < 2000; ++i) {
    const size_t at = random() % good_.size();
    Bytes flipped = good_;
    flipped[at] ^= static_cast<uint8_t>(1u << (random() % 8));
    const std::string error = error_of(flipped);
    if (at < header_.data_offset) {
      ASSERT_FALSE(error.empty()) << "flip at " << at;
    } else {
      ASSERT_TRUE(error.empty()) << error;
      ASSERT_EQ(LapReader::open(path_)->verify({}).size(), 1u) << "flip at " << at;
      ++in_data;
    }
  }
  EXPECT_GT(in_data, 200u);  // both kinds were tried
  EXPECT_LT(in_data, 1800u);
}

TEST_F(LapCorruption, AnErrorNamesTheDamagedPlace) {
  const auto flip = [&](size_t at) {
    Bytes bytes = good_;
    bytes[at] ^= 1;
    return error_of(bytes);
  };
  EXPECT_NE(flip(0).find("not a .lap file"), std::string::npos);
  EXPECT_NE(flip(8).find("version"), std::string::npos);
  EXPECT_NE(flip(200).find("header: damaged"), std::string::npos);
  for (size_t i = 0; i < kSectionCount; ++i) {
    const std::string damaged = std::string(section_name(i)) + ": damaged";
    EXPECT_NE(flip(header_.sections[i].offset).find(damaged), std::string::npos);
    EXPECT_NE(flip(header_.sections[i].offset - 1).find("damaged"), std::string::npos);
  }
}

TEST_F(LapCorruption, VerifyNamesTheDamagedTensor) {
  const std::vector<LapTensor> index = LapReader::open(path_)->index();
  Bytes bytes = good_;
  bytes[index[2].offset + 100] ^= 4;
  write(bytes);
  EXPECT_EQ(LapReader::open(path_)->verify({}), std::vector<std::string>{index[2].name});
}

TEST_F(LapCorruption, AForeignFileIsNotALap) {
  EXPECT_NE(error_of({}).find("not a .lap file"), std::string::npos);
  EXPECT_NE(error_of(Bytes(10, 'x')).find("not a .lap file"), std::string::npos);
  EXPECT_NE(error_of(Bytes(good_.begin(), good_.begin() + 100)).find("truncated"),
            std::string::npos);
}

// From here on every hash is right: the fields themselves are hostile.

TEST_F(LapCorruption, HostileHeaderFieldsAreRefused) {
  const auto header_field = [&](const std::string& why, size_t at, uint64_t value) {
    expect_refused(why, [&](Bytes& bytes) { poke(bytes, at, value); });
  };
  expect_refused("version 2", [](Bytes& b) { poke(b, 8, uint32_t{2}); });
  expect_refused("says it has 512", [](Bytes& b) { poke(b, 12, uint32_t{512}); });
  header_field("should have", 16, 1);
  header_field("data start at", 24, header_.data_offset + 64);
  header_field("data start at", 24, ~uint64_t{0});
  header_field("unpack to", 32, 0);
  header_field("unpack to", 32, uint64_t{1} << 40);
  const auto n_tensors = [&](uint32_t value) {
    return [value](Bytes& bytes) { poke(bytes, 40, value); };
  };
  expect_refused("0 tensors", n_tensors(0));
  expect_refused("4294967295 tensors", n_tensors(~0u));
  expect_refused("printable", n_tensors(4));
  expect_refused("reserved", [](Bytes& b) { poke(b, 44, uint32_t{1}); });
  expect_refused("reserved", [](Bytes& b) { b[176] = 1; });
  for (size_t i = 0; i < kSectionCount; ++i) {
    const size_t entry = kSectionsOffset + i * kSectionBytes;
    const LapPlace& place = header_.sections[i];
    header_field("expected", entry, place.offset + 64);
    header_field("expected", entry, ~uint64_t{63});
    header_field("header", entry + 8, ~uint64_t{0});
    header_field("more than the file holds", entry + 8, uint64_t{1} << 63);
    header_field(i == kIndex ? "64 bytes after the last name" : "expected", entry + 8,
                 place.bytes + 64);
  }
}

TEST_F(LapCorruption, HostileIndexFieldsAreRefused) {
  expect_field_refused("name at 1", 0, 0, uint32_t{1});
  expect_field_refused("name at 0 with 4294967295 bytes", 0, 4, ~0u);
  expect_field_refused("printable", 0, 4, 0u);
  expect_field_refused("unknown code 14", 0, 8, uint8_t{14});
  expect_field_refused("unknown layout 3", 0, 9, uint8_t{3});
  expect_field_refused("rotation 5", 2, 10, uint8_t{5});
  expect_field_refused("only panels can be rotated", 0, 10, uint8_t{6});
  expect_field_refused("unknown scale type 2", 2, 11, uint8_t{2});
  expect_field_refused("bf16 scales", 2, 11, uint8_t{1});
  expect_field_refused("0 dimensions", 0, 12, uint8_t{0});
  expect_field_refused("4 dimensions", 0, 12, uint8_t{4});
  expect_field_refused("reserved", 0, 13, uint8_t{1});
  expect_field_refused("dimension 2 is 7", 0, 32, int64_t{7});
  for (const int64_t n : {int64_t{0}, int64_t{-1}, INT64_MIN, INT64_MAX, int64_t{1} << 47})
    for (size_t tensor = 0; tensor < 5; ++tensor)
      expect_field_refused("empty or too large", tensor, 16, n);
  // Legal as a shape, but then the stored size does not fit: no overflow, no allocation.
  expect_field_refused("expected", 0, 16, (int64_t{1} << 47) - 1);
  expect_field_refused("expected", 2, 16, int64_t{1} << 40);
  expect_field_refused("float code", 0, 8, static_cast<uint8_t>(Code::kW4));
  expect_field_refused("panels need", 2, 8, static_cast<uint8_t>(Code::kF32));
  expect_field_refused("only row tables", 0, 40, int64_t{4});
  for (const int64_t width : {int64_t{0}, int64_t{-1}, int64_t{3}, INT64_MIN, INT64_MAX})
    expect_field_refused("record width", 4, 40, width);
}

TEST_F(LapCorruption, TensorsCannotOverlapOrLieOutside) {
  const std::vector<LapTensor> index = LapReader::open(path_)->index();
  for (size_t tensor = 0; tensor < index.size(); ++tensor) {
    for (const uint64_t offset : {uint64_t{0}, index[0].offset + (tensor == 0 ? 64 : 0),
                                  index[tensor].offset + 1, uint64_t{good_.size()}, ~uint64_t{63}})
      expect_field_refused("expected", tensor, 48, offset);
    for (const uint64_t bytes : {uint64_t{0}, index[tensor].bytes + 1, ~uint64_t{0}})
      expect_field_refused("expected", tensor, 56, bytes);
  }
  expect_refused("the tensors end at", [&](Bytes& bytes) {  // a hidden tail
    bytes.resize(bytes.size() + 64);
    poke(bytes, 16, uint64_t{bytes.size()});
  });
  expect_refused("beyond the file's end", [&](Bytes& bytes) {
    bytes.erase(bytes.end() - 64, bytes.end());
    poke(bytes, 16, uint64_t{bytes.size()});
  });
}

TEST_F(LapCorruption, DuplicateAndUnprintableNamesAreRefused) {
  const size_t names = header_.sections[kIndex].offset + 5 * kLapRecordBytes;
  expect_refused("printable", [&](Bytes& bytes) { bytes[names] = '\n'; });
  expect_refused("printable", [&](Bytes& bytes) { bytes[names + 3] = 0x1b; });
  // Tensor 0 has 17 characters; give tensor 1 the first 17 of its 25 and hand the rest to tensor 2.
  expect_refused("twice", [&](Bytes& bytes) {
    const std::string name = "model.norm.weight";
    poke(bytes, record(1, 4), static_cast<uint32_t>(name.size()));
    uint32_t length;
    std::memcpy(&length, bytes.data() + record(1, 4) + kLapRecordBytes, 4);
    const uint32_t moved = 25 - static_cast<uint32_t>(name.size());
    poke(bytes, record(2, 0), static_cast<uint32_t>(2 * name.size()));
    poke(bytes, record(2, 4), length + moved);
    std::memcpy(bytes.data() + names + name.size(), name.data(), name.size());
  });
}

// A file whose metadata section is `text`, everything else small and right.
Bytes with_metadata(const std::string& text) {
  std::vector<LapTensor> tensors = {plain_tensor("a", {1}, Code::kF32)};
  LapHeader header;
  header.n_tensors = 1;
  header.sections[kMetadata].bytes = text.size();
  header.sections[kIndex].bytes = encode_index(tensors).size();
  place_sections(header);
  header.file_bytes = place_tensors(tensors, header.data_offset);
  Bytes bytes = encode_header(header);
  bytes.resize(header.file_bytes);
  std::copy(text.begin(), text.end(), bytes.begin() + static_cast<long>(header.sections[0].offset));
  const Bytes index = encode_index(tensors);
  std::copy(index.begin(), index.end(),
            bytes.begin() + static_cast<long>(header.sections[kIndex].offset));
  reseal_lap(bytes);
  return bytes;
}

TEST_F(LapCorruption, HostileMetadataIsRefused) {
  const std::string good = metadata_to_json(small_metadata());
  ASSERT_EQ(error_of(with_metadata(good)), "");
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return error_of(with_metadata(text.replace(at, from.size(), to)));
  };
  EXPECT_NE(replaced("{", "").find("metadata"), std::string::npos);
  EXPECT_NE(replaced("\"config\"", "\"other\"").find("\"config\" is missing"), std::string::npos);
  EXPECT_NE(replaced("\"{{ messages }}\"", "7").find("chat_template"), std::string::npos);
  EXPECT_NE(replaced("{\"temperature\":0.5}", "[]").find("generation_config"), std::string::npos);
  EXPECT_NE(replaced("\"d_model\":4", "\"d_model\":0").find("d_model"), std::string::npos);
  EXPECT_NE(replaced("\"d_model\":4", "\"d_model\":1e99").find("d_model"), std::string::npos);
  EXPECT_NE(replaced("messages", "\xff").find("metadata"), std::string::npos);
  EXPECT_NE(error_of(with_metadata("[]")).find("expected a JSON object"), std::string::npos);
  EXPECT_NE(error_of(with_metadata("null")).find("expected a JSON object"), std::string::npos);
}

TEST_F(LapCorruption, MetadataCannotNestWithoutEnd) {
  // A million levels would overflow the stack of a recursive parser or writer.
  for (const char* open : {"[", "{\"a\":"}) {
    std::string text = "{\"recipe\":";
    for (int i = 0; i < 1000000; ++i) text += open;
    EXPECT_NE(error_of(with_metadata(text)).find("nested deeper"), std::string::npos);
  }
}

TEST_F(LapCorruption, TokenizerJsonOfAnotherSizeIsRefused) {
  const auto unpack_error = [&](const std::function<void(Bytes&)>& change) -> std::string {
    Bytes bytes = good_;
    change(bytes);
    reseal_lap(bytes);
    EXPECT_EQ(error_of(bytes), "");  // found only when somebody wants the JSON
    const auto reader = LapReader::open(path_);
    try {
      reader->tokenizer_json();
      return {};
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadData);
      return e.what();
    }
  };
  EXPECT_NE(unpack_error([](Bytes& b) { poke(b, 32, uint64_t{28}); }).find("tokenizer JSON"),
            std::string::npos);
  const size_t frame = header_.sections[kTokenizerJson].offset;
  for (size_t i = 0; i < header_.sections[kTokenizerJson].bytes; ++i)
    unpack_error(
        [&](Bytes& b) { b[frame + i] ^= 0x55; });  // may unpack to other text; must not crash
}

// Any single byte of the index and the header, changed to anything with hashes that fit, either is
// refused or gives a file that can be read to the end.
TEST_F(LapCorruption, RandomHostileBytesNeverCrash) {
  std::mt19937 random(77);
  int opened = 0;
  for (int i = 0; i < 3000; ++i) {
    Bytes bytes = good_;
    const size_t end = header_.sections[kTokenizerTables].offset;
    for (size_t n = 1 + random() % 3; n-- > 0;)
      bytes[random() % end] = static_cast<uint8_t>(random());
    reseal_lap(bytes);
    write(bytes);
    try {
      const auto reader = LapReader::open(path_);
      ++opened;
      reader->verify({});
      for (size_t t = 0; t < reader->tensors().size(); ++t) {
        std::vector<float> row(static_cast<size_t>(reader->tensors()[t].k()));
        reader->read_rows(t, reader->tensors()[t].rows() - 1, 1, row);
      }
      reader->tokenizer_json();
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), ErrorCode::kBadData) << e.what();
    }
  }
  EXPECT_GT(opened, 0);  // the checks were not all the same one
}

}  // namespace
}  // namespace lapidary
