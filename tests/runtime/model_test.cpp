// Files whose hashes are right but whose tensors are not those of the model they describe.
#include "runtime/model.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/kernels.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

// Writes tiny-qwen3 again with a changed index, and returns what load says about it.
template <class Change>
std::string load_changed(Change&& change) {
  static TemporaryFolder folder;
  const auto source = LapReader::open(converted_path("tiny-qwen3"));
  std::vector<LapTensor> tensors = source->index();
  change(tensors);
  const std::string path = folder.file("changed.lap");
  LapWriter writer(path, source->metadata(), {{}, source->tokenizer_tables()}, tensors);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const LapTensor* original = source->find(tensors[i].name);
    std::vector<uint8_t> bytes(stored_bytes(tensors[i]), 0);
    if (original) {
      const std::span<const uint8_t> data = source->data(*original);
      std::copy_n(data.begin(), std::min(data.size(), bytes.size()), bytes.begin());
    }
    writer.append(i, bytes);
  }
  writer.commit();
  try {
    Model::load(path);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    return e.what();
  }
  return {};
}

auto named(std::vector<LapTensor>& tensors, const std::string& name) {
  return std::find_if(tensors.begin(), tensors.end(),
                      [&](const LapTensor& t) { return t.name == name; });
}

TEST(Model, LoadsAnUnchangedCopy) {
  EXPECT_EQ(load_changed([](auto&) {}), "");
}

TEST(Model, NamesTheTensorThatIsMissing) {
  for (const std::string name :
       {"model.norm.weight", "model.layers.1.self_attn.k_norm.weight",
        "model.layers.0.mlp.down_proj.weight", "model.embed_tokens.weight"}) {
    const std::string message =
        load_changed([&](auto& tensors) { tensors.erase(named(tensors, name)); });
    EXPECT_NE(message.find(name + " is missing"), std::string::npos) << message;
  }
}

TEST(Model, NamesTheTensorOfAnotherShape) {
  const std::string message = load_changed([](auto& tensors) {
    auto tensor = named(tensors, "model.layers.0.mlp.up_proj.weight");
    std::swap(tensor->shape[0], tensor->shape[1]);
  });
  EXPECT_NE(message.find("model.layers.0.mlp.up_proj.weight has shape"), std::string::npos);
}

TEST(Model, NamesTheTensorThatIsTooMany) {
  const std::string message = load_changed([](auto& tensors) {
    tensors.push_back(*named(tensors, "model.norm.weight"));
    tensors.back().name = "model.norm.bias";
  });
  EXPECT_NE(message.find("model.norm.bias is not part"), std::string::npos) << message;
}

TEST(Model, FindsMatricesByModuleName) {
  const auto model = converted_model("nano-e");
  EXPECT_EQ(model->find_matrix("model.layers.3.self_attn.q_proj"), &model->layers[3].q);
  EXPECT_EQ(model->find_matrix("model.layers.7.self_attn.k_proj"), nullptr);  // shares K and V
  EXPECT_EQ(model->find_matrix("model.layers.99.self_attn.q_proj"), nullptr);
}

}  // namespace
}  // namespace lapidary
