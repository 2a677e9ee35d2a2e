// GGUF: what the writer wrote is read, hostile headers are Errors, and no damage can crash the
// reader.
#include "formats/gguf.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "formats/error.h"
#include "tests/formats/error_of.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/mutator.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

using Bytes = std::vector<uint8_t>;

std::vector<GgufPair> every_type() {
  return {{"u8", uint8_t{200}},
          {"i8", int8_t{-100}},
          {"u16", uint16_t{60000}},
          {"i16", int16_t{-30000}},
          {"u32", uint32_t{4000000000}},
          {"i32", int32_t{-2000000000}},
          {"f32", 1.5f},
          {"bool", true},
          {"string", std::string("▁text\0with a zero", 17)},
          {"u64", uint64_t{1} << 63},
          {"i64", -(int64_t{1} << 62)},
          {"f64", 0.1},
          {"bools", std::vector<bool>{true, false, true}},
          {"strings", std::vector<std::string>{"", "a", "bc"}},
          {"floats", std::vector<float>{0.0f, -1.0f}},
          {"empty", std::vector<int32_t>{}}};
}

std::vector<GgufTensor> some_tensors() {
  return {{"a", {3, 5}, GgmlType::kF32},
          {"b", {2, 3, 64}, GgmlType::kQ4_0},
          {"c", {1}, GgmlType::kBF16},
          {"d", {2, 256}, GgmlType::kQ6_K}};
}

Bytes data_of(const GgufTensor& t) {
  Bytes bytes(t.bytes());
  std::iota(bytes.begin(), bytes.end(), static_cast<uint8_t>(t.name[0]));
  return bytes;
}

Bytes written_file() {
  TemporaryFolder folder;
  GgufWriter writer(folder.file("x.gguf"), every_type(), some_tensors());
  for (const GgufTensor& t : writer.tensors()) {
    const Bytes data = data_of(t);
    writer.append(std::span(data).first(data.size() / 2));
    writer.append(std::span(data).subspan(data.size() / 2));
  }
  writer.commit();
  const std::string text = read_text(folder.file("x.gguf"));
  return {text.begin(), text.end()};
}

// Opens and reads everything. True when it opened; anything but an Error fails the test.
bool opens_and_reads(std::span<const uint8_t> bytes) {
  const MemoryFile file(bytes);
  try {
    const GgufReader reader(file.path());
    uint64_t sum = 0;
    for (const GgufTensor& t : reader.tensors())
      for (const uint8_t byte : reader.data(t)) sum += byte;
    return sum < ~uint64_t{0};
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return false;
  }
}

TEST(Gguf, ReadsBackEveryValueAndTensor) {
  const Bytes bytes = written_file();
  const MemoryFile file(bytes);
  const GgufReader reader(file.path());
  EXPECT_EQ(reader.pairs(), every_type());
  ASSERT_EQ(reader.tensors().size(), some_tensors().size());
  for (size_t i = 0; i < reader.tensors().size(); ++i) {
    const GgufTensor& t = reader.tensors()[i];
    EXPECT_EQ(t.name, some_tensors()[i].name);
    EXPECT_EQ(t.shape, some_tensors()[i].shape);
    EXPECT_EQ(t.type, some_tensors()[i].type);
    EXPECT_TRUE(std::ranges::equal(reader.data(t), data_of(some_tensors()[i]))) << t.name;
  }
  EXPECT_EQ(reader.find("missing"), nullptr);
}

TEST(Gguf, WriterRefusesDoubledNamesAndBrokenBlocks) {
  TemporaryFolder folder;
  const auto make = [&](std::vector<GgufPair> pairs, std::vector<GgufTensor> tensors) {
    return error_of([&] { GgufWriter(folder.file("x"), pairs, std::move(tensors)); }).code();
  };
  EXPECT_EQ(make({{"k", 1.0f}, {"k", 2.0f}}, {}), ErrorCode::kBadData);
  EXPECT_EQ(make({}, {{"t", {1}}, {"t", {1}}}), ErrorCode::kBadData);
  EXPECT_EQ(make({}, {{"t", {4, 48}, GgmlType::kQ8_0}}), ErrorCode::kBadData);
}

TEST(Gguf, RejectsTruncationAtEveryByte) {
  const Bytes bytes = written_file();
  // The padding behind the last tensor may be missing; nothing else may.
  const GgufTensor last = some_tensors().back();
  const size_t padding = (32 - last.bytes() % 32) % 32;
  for (size_t n = 0; n < bytes.size() - padding; ++n)
    EXPECT_FALSE(opens_and_reads(std::span(bytes).first(n))) << n;
}

// A header by hand, for claims that the writer cannot make.
class Header {
 public:
  Header(uint64_t n_tensors, uint64_t n_pairs, uint32_t version = 3) {
    for (const char c : {'G', 'G', 'U', 'F'}) bytes.push_back(static_cast<uint8_t>(c));
    put(version).put(n_tensors).put(n_pairs);
  }
  template <class T>
  Header& put(T value) {
    const size_t at = bytes.size();
    bytes.resize(at + sizeof(T));
    std::memcpy(&bytes[at], &value, sizeof(T));
    return *this;
  }
  Header& text(const std::string& s) {
    put(static_cast<uint64_t>(s.size()));
    bytes.insert(bytes.end(), s.begin(), s.end());
    return *this;
  }
  Header& tensor(const std::string& name, std::vector<uint64_t> dims, uint32_t type,
                 uint64_t offset) {
    text(name).put(static_cast<uint32_t>(dims.size()));
    for (const uint64_t n : dims) put(n);
    return put(type).put(offset);
  }
  Header& data(size_t n) {
    bytes.resize((bytes.size() + 31) / 32 * 32 + n);
    return *this;
  }
  Bytes bytes;
};

void expect_refused(const Header& header, const std::string& words) {
  const MemoryFile file(header.bytes);
  const Error e = error_of([&] { GgufReader reader(file.path()); });
  EXPECT_EQ(e.code(), ErrorCode::kBadData);
  EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
}

TEST(Gguf, RefusesHostileHeaders) {
  constexpr uint64_t kHuge = ~uint64_t{0};
  expect_refused(Header(0, 0, 1), "version 1");
  expect_refused(Header(0, 0, 0x03000000), "big-endian");
  expect_refused(Header(kHuge, 0), "tensors");
  expect_refused(Header(0, kHuge / 13), "key-value pairs");
  expect_refused(Header(0, 1).put(kHuge).data(64), "a key");
  expect_refused(Header(0, 1).text("k\n").put(uint32_t{0}).put(uint8_t{1}), "control characters");
  expect_refused(Header(0, 1).text("k").put(uint32_t{13}).data(64), "value type 13");
  expect_refused(Header(0, 1).text("k").put(uint32_t{8}).put(kHuge), "a text");
  expect_refused(Header(0, 1).text("k").put(uint32_t{7}).put(uint8_t{2}), "boolean");
  // 2^61 elements of eight bytes wrap around to none.
  expect_refused(Header(0, 1).text("k").put(uint32_t{9}).put(uint32_t{10}).put(uint64_t{1} << 61),
                 "array elements");
  expect_refused(Header(0, 1).text("k").put(uint32_t{9}).put(uint32_t{9}).put(uint64_t{1}).data(64),
                 "arrays of arrays");
  expect_refused(Header(0, 2)
                     .text("k")
                     .put(uint32_t{0})
                     .put(uint8_t{1})
                     .text("k")
                     .put(uint32_t{0})
                     .put(uint8_t{1}),
                 "comes twice");
  for (const uint32_t alignment : {0u, 24u, 1u << 30})
    expect_refused(Header(0, 1).text("general.alignment").put(uint32_t{4}).put(alignment),
                   "general.alignment");
  expect_refused(Header(0, 1).text("general.alignment").put(uint32_t{6}).put(32.0f),
                 "general.alignment");
}

TEST(Gguf, RefusesHostileTensors) {
  expect_refused(Header(1, 0).tensor("t", {}, 0, 0).data(64), "0 dimensions");
  expect_refused(Header(1, 0).tensor("t", {1, 1, 1, 1, 1}, 0, 0).data(64), "5 dimensions");
  expect_refused(Header(1, 0).tensor("t", {0}, 0, 0).data(64), "impossible size");
  // 2^32 x 2^32 wraps around to no bytes at all.
  expect_refused(Header(1, 0).tensor("t", {uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0).data(64),
                 "impossible size");
  expect_refused(Header(1, 0).tensor("t", {4}, 99, 0).data(64), "tensor type 99");
  expect_refused(Header(1, 0).tensor("t", {48}, 8, 0).data(64), "whole blocks");
  expect_refused(Header(1, 0).tensor("t", {4}, 0, 4).data(64), "multiple of 32");
  expect_refused(Header(1, 0).tensor("t", {4}, 0, ~uint64_t{31}).data(64), "needs 16 bytes");
  expect_refused(Header(1, 0).tensor("t", {17}, 0, 0).data(64), "needs 68 bytes");
  expect_refused(Header(2, 0).tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32).data(64),
                 "comes twice");
  expect_refused(Header(2, 0).tensor("t", {9}, 0, 0).tensor("u", {1}, 0, 32).data(64), "overlaps");
}

TEST(Gguf, SurvivesDamage) {
  const Bytes bytes = written_file();
  Mutator mutator(1);
  int opened = 0;
  for (int i = 0; i < 3000; ++i) opened += opens_and_reads(mutator.mutate(bytes, bytes)) ? 1 : 0;
  EXPECT_GT(opened, 0);  // damage to data alone goes unnoticed: GGUF has no hashes
}

}  // namespace
}  // namespace lapidary
