// What decides whether a model may keep its keys and values in fewer bits.
#include "model/kv_gate.h"

#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "model/golden_models.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

Model golden() {
  auto backend = create_backend("cpu", {.n_threads = 2, .isa = ""}).value();
  return load_model(kGoldenFolder / "llama", std::move(backend), {.context = 256, .rows_max = 0, .progress = {}})
      .value();
}

std::string memory(double i8, double i4, int version = 1) {
  return fmt::format(R"({{"version":{},"i8":{{"mean_kld":{},"perplexity_change":0.5}},"i4":{{"mean_kld":{},)"
                     R"("perplexity_change":0.25}}}})",
                     version, i8, i4);
}

TEST(KvGate, MeasuresNothingWhereNothingDiffersAndMoreWithFewerBits) {
  const Model model = golden();
  const auto exact = measure_kv_loss(model, KvType::kF16);
  ASSERT_TRUE(exact) << message(exact);
  EXPECT_EQ(exact->mean_kld, 0.0);
  EXPECT_EQ(exact->perplexity_change, 0.0);
  const auto i8 = measure_kv_loss(model, KvType::kI8), i4 = measure_kv_loss(model, KvType::kI4);
  ASSERT_TRUE(i8 && i4);
  EXPECT_GT(i8->mean_kld, 0.0);
  EXPECT_GT(i4->mean_kld, 5 * i8->mean_kld);
  EXPECT_LT(i4->mean_kld, 0.05);
}

TEST(KvGate, WhatWasMeasuredIsRememberedAndDecides) {
  const Model model = golden();
  const TestFolder folder;
  int told = 0;  // a measurement is told of twice
  KvGateOptions options{.memory = folder.path() / "model.json", .tell = [&](const std::string&) { ++told; }};
  EXPECT_EQ(choose_kv_type(model, "f16", options), KvType::kF16);
  EXPECT_EQ(told, 0);
  (void)choose_kv_type(model, "i4", options);
  (void)choose_kv_type(model, "i4", options);
  EXPECT_EQ(told, 2);
  EXPECT_NE(read_file(options.memory, 4096).value().find("mean_kld"), std::string::npos);

  folder.write("model.json", memory(0.002, 0.2));
  EXPECT_EQ(choose_kv_type(model, "auto", options), KvType::kI8);
  const auto refused = choose_kv_type(model, "i4", options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  for (const char* said : {"0.2000", "+25.00 %", "--kv-type auto", "--kv-gate off"})
    EXPECT_NE(refused.error().message.find(said), std::string::npos) << refused.error().message;
  folder.write("model.json", memory(0.002, 0.009));
  EXPECT_EQ(choose_kv_type(model, "auto", options), KvType::kI4);
  folder.write("model.json", memory(0.3, 0.2));
  EXPECT_EQ(choose_kv_type(model, "auto", options), KvType::kF16);
  EXPECT_EQ(choose_kv_type(model, "i8", options), KvType::kI8) << "eight bits are for who asks for them";
  EXPECT_EQ(told, 2);
  options.open = true;
  EXPECT_EQ(choose_kv_type(model, "i4", options), KvType::kI4);
  EXPECT_EQ(told, 2);
}

TEST(KvGate, WhatWasMeasuredAtEightBitsSaysNothingOfFour) {
  const TestFolder folder;
  std::vector<std::vector<std::byte>> bytes;
  const Checkpoint original = open_checkpoint(kGoldenFolder / "llama/model.gguf").value();
  const Checkpoint nested = encoded(original, info(Type::kI8), bytes);
  ASSERT_TRUE(write_pack(nested, folder.path() / "nested.pack", 1));
  const Model model =
      load_model(folder.path() / "nested.pack", create_backend("cpu", {.n_threads = 2, .isa = ""}).value(),
                 {.context = 256, .rows_max = 0, .progress = {}, .bits = 4})
          .value();
  folder.write("model.json", memory(9.5, 9.5));
  int told = 0;
  KvGateOptions options{.memory = folder.path() / "model.json", .tell = [&](const std::string&) { ++told; }};
  (void)choose_kv_type(model, "i4", options);
  (void)choose_kv_type(model, "i4", options);
  EXPECT_EQ(told, 2);
  for (int unit = 0; unit < model.decoder->n_units(); ++unit) model.decoder->set_bits(unit, 8);
  EXPECT_FALSE(choose_kv_type(model, "i4", options));
  EXPECT_EQ(told, 2);
}

TEST(KvGate, AMemoryThatIsDamagedOrOldOrCannotBeWrittenCostsAMeasurementOnly) {
  const Model model = golden();
  const TestFolder folder;
  int told = 0;  // a measurement is told of twice
  KvGateOptions options{.memory = folder.path() / "model.json", .tell = [&](const std::string&) { ++told; }};
  for (const std::string& text :
       {std::string("{"), std::string("[]"), memory(9, 9, 0), std::string(R"({"version":1,"i4":3})"),
        std::string(R"({"version":1,"i4":{"mean_kld":"x","perplexity_change":0.5}})")}) {
    folder.write("model.json", text);
    (void)choose_kv_type(model, "i4", options);
    EXPECT_NE(read_file(options.memory, 4096).value().find(R"("i4":{"mean_kld":)"), std::string::npos) << text;
  }
  EXPECT_EQ(told, 10);
  options.memory = folder.path() / "missing" / "model.json";
  (void)choose_kv_type(model, "i4", options);
  (void)choose_kv_type(model, "i4", options);
  EXPECT_EQ(told, 14);
}

TEST(KvGate, UnknownTypesAreRefusedBeforeAndAfterLoading) {
  const Model model = golden();
  for (const auto& result : {choose_kv_type(model, "i3", {}), planned_kv_type("i3")}) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kInvalidArgument);
    EXPECT_NE(result.error().message.find("auto"), std::string::npos) << result.error().message;
  }
  EXPECT_EQ(planned_kv_type("auto").value(), KvType::kF16);
}

}  // namespace
}  // namespace hearth
