// Decoding and encoding against what the `gguf` Python package computes (tests/data/quant/make_golden.py).
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "base/mapped_file.h"
#include "tensor/type.h"

namespace hearth {
namespace {

struct Golden {
  uint32_t block_bytes = 0, block = 0;
  std::span<const std::byte> blocks;
  std::vector<float> floats, encoder_in;
  std::span<const std::byte> encoder_out;
};

std::vector<float> floats_at(std::span<const std::byte> bytes) {
  std::vector<float> out(bytes.size() / 4);
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

uint32_t u32_at(std::span<const std::byte> bytes, size_t at) {
  uint32_t value;
  std::memcpy(&value, bytes.subspan(at, 4).data(), 4);
  return value;
}

Golden read_golden(std::span<const std::byte> file) {
  const size_t n_blocks = u32_at(file, 4);
  Golden golden{.block_bytes = u32_at(file, 8),
                .block = u32_at(file, 12),
                .blocks = {},
                .floats = {},
                .encoder_in = {},
                .encoder_out = {}};
  golden.blocks = file.subspan(16, n_blocks * golden.block_bytes);
  file = file.subspan(16 + golden.blocks.size());
  golden.floats = floats_at(file.first(n_blocks * golden.block * 4));
  file = file.subspan(n_blocks * golden.block * 4);
  const size_t n_encoder = u32_at(file, 0);
  golden.encoder_in = floats_at(file.subspan(4, n_encoder * 4));
  golden.encoder_out = file.subspan(4 + n_encoder * 4);
  return golden;
}

class QuantGolden : public testing::TestWithParam<const TypeInfo*> {
 protected:
  void SetUp() override {
    auto file = MappedFile::open(std::string(HEARTH_TEST_DATA) + "/quant/" + std::string(type_.name) + ".bin");
    ASSERT_TRUE(file.has_value()) << file.error().message;
    file_ = std::move(*file);
    golden_ = read_golden(file_.bytes());
    ASSERT_EQ(golden_.block, static_cast<uint32_t>(type_.block));
    ASSERT_EQ(golden_.block_bytes, static_cast<uint32_t>(type_.block_bytes));
  }
  const TypeInfo& type_ = *GetParam();
  MappedFile file_;
  Golden golden_;
};

// A model's weights would silently differ from every other engine's.
TEST_P(QuantGolden, DecodesToTheSameBits) {
  std::vector<float> out(golden_.floats.size());
  type_.decode(golden_.blocks.data(), out.data(), static_cast<int64_t>(out.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    if (std::isnan(golden_.floats[i])) {
      ASSERT_TRUE(std::isnan(out[i])) << i;
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(golden_.floats[i]))
          << i << ": " << out[i] << " instead of " << golden_.floats[i];
    }
  }
}

TEST_P(QuantGolden, EncodesToTheSameBlocks) {
  if (golden_.encoder_in.empty()) return;  // the reference has no encoder for this type
  std::vector<std::byte> out(golden_.encoder_out.size());
  type_.encode(golden_.encoder_in.data(), out.data(), static_cast<int64_t>(golden_.encoder_in.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    ASSERT_EQ(static_cast<int>(out[i]), static_cast<int>(golden_.encoder_out[i]))
        << "block " << i / golden_.block_bytes << " byte " << i % golden_.block_bytes;
  }
}

std::vector<const TypeInfo*> types_with_golden() {
  std::vector<const TypeInfo*> out;
  for (const TypeInfo& type : all_types()) {
    if (type.type != Type::kF32 && !is_own(type.type)) out.push_back(&type);
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(All, QuantGolden, testing::ValuesIn(types_with_golden()),
                         [](const auto& tested) { return std::string(tested.param->name); });

}  // namespace
}  // namespace hearth
