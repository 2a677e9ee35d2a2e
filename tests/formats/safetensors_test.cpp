// safetensors: what the Python library wrote is read, hostile headers are Errors, and no damage to
// a file can crash the reader.
#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "formats/error.h"
#include "tests/formats/error_of.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/mutator.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes seed_bytes() {
  const std::string text = read_text(source_path("tests/fuzz/seeds/all_types.safetensors"));
  return {text.begin(), text.end()};
}

Bytes file_with(const std::string& header, size_t data_bytes) {
  Bytes file(8 + header.size() + data_bytes);
  const uint64_t size = header.size();
  std::memcpy(file.data(), &size, 8);
  std::copy(header.begin(), header.end(), file.begin() + 8);
  return file;
}

// Opens and reads everything. True when it opened; anything but an Error fails the test.
bool opens_and_reads(std::span<const uint8_t> bytes) {
  const MemoryFile file(bytes);
  try {
    const SafetensorsSet set = SafetensorsSet::open_file(file.path());
    for (const SafetensorsEntry& entry : set.entries()) {
      Bytes data(entry.bytes);
      set.read(entry, 0, data);
      if (entry.dtype != DType::kBool) (void)set.read_floats(entry);
    }
    return true;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return false;
  }
}

TEST(Safetensors, ReadsBackEveryTypeAndShape) {
  TemporaryFolder folder;
  const std::array<float, 6> floats{0.0f, -1.5f, 3.25f, 1e-30f, -0.0f, 65504.0f};
  const std::array<int64_t, 3> longs{-1, 0, 1LL << 31};
  const std::array<int32_t, 3> ints{-1, 0, INT32_MAX};
  const std::array<uint16_t, 2> halves{0x3c00, 0xc000};
  const std::array<uint8_t, 3> bytes{0, 1, 255};
  const auto raw = [](const auto& array) {
    return std::span(reinterpret_cast<const uint8_t*>(array.data()), sizeof(array));
  };
  const std::string path = folder.file("x.safetensors");
  write_safetensors(path,
                    {{"b", DType::kF32, {2, 3}, raw(floats)},
                     {"a/odd \"name\" é", DType::kU8, {3}, raw(bytes)},
                     {"longs", DType::kI64, {3}, raw(longs)},
                     {"ints", DType::kI32, {3}, raw(ints)},
                     {"half", DType::kF16, {2}, raw(halves)},
                     {"none", DType::kF32, {0, 4}, {}},
                     {"scalar", DType::kBF16, {}, raw(halves).first(2)}},
                    {{"format", "pt"}, {"note", "x"}});
  const SafetensorsSet set = SafetensorsSet::open_file(path);
  EXPECT_EQ(set.entries().size(), 7u);
  EXPECT_EQ(set.entries().front().name, "b");  // file order, not alphabetical
  EXPECT_EQ(set.file_metadata().at("note"), "x");
  EXPECT_EQ(set.find("c"), nullptr);
  EXPECT_EQ(set.find("b")->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(set.read_floats(*set.find("b")), std::vector<float>(floats.begin(), floats.end()));
  EXPECT_EQ(set.read_floats(*set.find("half")), (std::vector<float>{1, -2}));
  EXPECT_EQ(set.read_floats(*set.find("scalar")).size(), 1u);
  EXPECT_EQ(set.read_floats(*set.find("none")).size(), 0u);
  EXPECT_EQ(set.read_floats(*set.find("a/odd \"name\" é")), (std::vector<float>{0, 1, 255}));
  EXPECT_EQ(set.read_ints(*set.find("ints")), std::vector<int32_t>(ints.begin(), ints.end()));
  EXPECT_EQ(error_of([&] { set.read_ints(*set.find("longs")); }).code(), ErrorCode::kBadData);
  EXPECT_EQ(error_of([&] { set.read_ints(*set.find("b")); }).code(), ErrorCode::kBadData);
  Bytes middle(4);
  set.read(*set.find("b"), 8, middle);
  float third;
  std::memcpy(&third, middle.data(), 4);
  EXPECT_EQ(third, 3.25f);
  // Data begin at a multiple of 8, as the format asks of writers.
  EXPECT_EQ(set.find("b")->offset % 8, 0u);
}

TEST(Safetensors, ReadsSingleAndShardedFolders) {
  const SafetensorsSet single = SafetensorsSet::open_folder(data_path("tiny-qwen3"));
  EXPECT_NE(single.find("model.embed_tokens.weight"), nullptr);
  const SafetensorsSet sharded = SafetensorsSet::open_folder(data_path("tiny-llama3"));
  const SafetensorsEntry* norm = sharded.find("model.norm.weight");
  ASSERT_NE(norm, nullptr);
  EXPECT_EQ(sharded.read_floats(*norm).size(), static_cast<size_t>(norm->elements()));
  size_t last_shard = 0;
  for (const SafetensorsEntry& entry : sharded.entries())
    last_shard = std::max(last_shard, entry.shard);
  EXPECT_EQ(last_shard, 3u);
}

class ShardedFolder : public testing::Test {
 protected:
  void write_shard(const std::string& file, const std::string& tensor) {
    const std::array<uint8_t, 4> zero{};
    write_safetensors(folder_.file(file), {{tensor, DType::kF32, {1}, zero}});
  }
  void write_index(const std::string& weight_map) {
    write_text_atomically(folder_.file("model.safetensors.index.json"),
                          "{\"weight_map\":" + weight_map + "}");
  }
  Error error() {
    return error_of([&] { SafetensorsSet::open_folder(folder_.path()); });
  }
  TemporaryFolder folder_;
};

TEST_F(ShardedFolder, WithAMissingShardNamesItAndTheIndex) {
  write_shard("one.safetensors", "a");
  write_index(R"({"a":"one.safetensors","b":"two.safetensors"})");
  const Error e = error();
  EXPECT_EQ(e.code(), ErrorCode::kNotFound);
  EXPECT_NE(std::string(e.what()).find("two.safetensors"), std::string::npos) << e.what();
  EXPECT_NE(std::string(e.what()).find("index.json"), std::string::npos) << e.what();
}

TEST_F(ShardedFolder, NeverReadsOutsideItself) {
  write_shard("one.safetensors", "a");
  for (const char* name : {"../one.safetensors", "/one.safetensors", "sub/one.safetensors", "..",
                           ".", "", "one.safetensors\\u0000.txt"}) {
    write_index(std::string(R"({"a":")") + name + "\"}");
    EXPECT_EQ(error().code(), ErrorCode::kBadData) << name;
  }
}

TEST_F(ShardedFolder, ThatContradictsItsIndexIsRefused) {
  write_shard("one.safetensors", "a");
  write_shard("two.safetensors", "a");
  for (const char* map :
       {R"({"a":"one.safetensors","b":"two.safetensors"})",  // b is not there, a stands twice
        R"({"a":"one.safetensors","b":"one.safetensors"})", R"({"b":"one.safetensors"})",
        R"({"a":"one.safetensors","a":"two.safetensors"})", R"({"a":7})", "[]", "{"}) {
    write_index(map);
    EXPECT_EQ(error().code(), ErrorCode::kBadData) << map;
  }
}

TEST(SafetensorsReader, RefusesHostileHeaders) {
  const auto tensor = [](const std::string& name, const std::string& dtype,
                         const std::string& shape, const std::string& offsets) {
    return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
           ",\"data_offsets\":" + offsets + "}";
  };
  const std::string good = tensor("a", "F32", "[2]", "[0,8]");
  EXPECT_TRUE(opens_and_reads(file_with("{" + good + "}", 8)));
  // An empty tensor lies nowhere, so it overlaps with nothing.
  EXPECT_TRUE(
      opens_and_reads(file_with("{" + good + "," + tensor("e", "F32", "[0]", "[0,0]") + "}", 8)));
  const std::string headers[] = {
      "",
      "[]",
      "null",
      "{",
      "{\"a\":3}",
      "{\"a\":{}}",
      "{" + good + "," + good + "}",                                // one name twice
      "{" + good + "," + tensor("b", "F32", "[1]", "[4,8]") + "}",  // overlap
      "{" + tensor("a", "F32", "[2]", "[8,16]") + "}",              // past the end
      "{" + tensor("a", "F32", "[2]", "[8,0]") + "}",               // backwards
      "{" + tensor("a", "F32", "[3]", "[0,8]") + "}",               // shape of 12 bytes
      "{" + tensor("a", "F32", "[-2]", "[0,8]") + "}",
      "{" + tensor("a", "F32", "[2.0]", "[0,8]") + "}",
      "{" + tensor("a", "F32", "2", "[0,8]") + "}",
      "{" + tensor("a", "F32", "[2]", "[0]") + "}",
      "{" + tensor("a", "F32", "[2]", "[0,8,8]") + "}",
      "{" + tensor("a", "F32", "[2]", "[0,18446744073709551616]") + "}",
      "{" + tensor("a", "F32", "[4611686018427387905]", "[0,4]") + "}",    // wraps to 4 bytes
      "{" + tensor("a", "F32", "[4294967296,4294967296]", "[0,0]") + "}",  // wraps to 0
      "{" + tensor("a", "F8_E4M3", "[8]", "[0,8]") + "}",
      "{" + tensor("a", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") + "}",
      "{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}",
      "{\"__metadata__\":[]," + good + "}",
      "{\"a\":" + std::string(50000, '[') + std::string(50000, ']') + "}",
      "{\"" + std::string(1000, 'x') + "\":1}",
      "{\"\xff\":1}",
  };
  for (const std::string& header : headers)
    EXPECT_FALSE(opens_and_reads(file_with(header, 8))) << header.substr(0, 200);
  Bytes long_header = file_with("{}", 0);
  for (const uint64_t size : {uint64_t{3}, uint64_t{1} << 40, UINT64_MAX, UINT64_MAX - 7}) {
    std::memcpy(long_header.data(), &size, 8);
    EXPECT_FALSE(opens_and_reads(long_header)) << size;
  }
}

TEST(SafetensorsReader, SurvivesTruncationAtEveryByte) {
  const Bytes file = seed_bytes();
  ASSERT_LT(file.size(), size_t{64} << 10);
  ASSERT_TRUE(opens_and_reads(file));
  for (size_t size = 0; size < file.size(); ++size)
    EXPECT_FALSE(opens_and_reads(std::span(file).first(size))) << size;
}

TEST(SafetensorsReader, SurvivesFlippedBits) {
  const Bytes file = seed_bytes();
  Mutator random(1);
  int opened = 0;
  for (int i = 0; i < 2000; ++i) {
    Bytes flipped = file;
    const uint64_t bit = random.below(8 * file.size());
    flipped[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    opened += opens_and_reads(flipped);
  }
  // Flips in data, names and padding go unseen, those in numbers and syntax do not.
  EXPECT_GT(opened, 100);
  EXPECT_LT(opened, 1900);
}

}  // namespace
}  // namespace lapidary
