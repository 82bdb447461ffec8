#include "cluster/wire.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/limits.h"

namespace hearth::cluster {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// All frames of these bytes, which arrive `at_once` at a time.
Result<std::vector<Frame>> read(std::span<const std::byte> bytes, size_t at_once) {
  FrameReader reader;
  std::vector<Frame> frames;
  while (!bytes.empty()) {
    const auto some = bytes.first(std::min({at_once, bytes.size(), reader.room().size()}));
    std::memcpy(reader.room().data(), some.data(), some.size());
    reader.put(some.size());
    bytes = bytes.subspan(some.size());
    while (auto frame = TRY(reader.next())) frames.push_back(std::move(*frame));
  }
  return frames;
}

Step some_step() {
  return {.ops = {{SequenceOp::Kind::kOpen, 3, 0}, {SequenceOp::Kind::kFork, 3, 4}},
          .rows = {{3, 100, 1}, {4, 7, 2}},
          .hidden = {1.5f, -2.0f, 0.0f, 4.0f, 5.0f, 6.0f}};
}

TEST(Wire, ChecksumIsCastagnolis) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c({}), 0u);
}

TEST(Wire, RowsInFewerBitsAreNearAndFewerBytes) {
  StepAnswer sent;
  for (int i = 0; i < 1000; ++i)
    sent.hidden.push_back(std::sin(static_cast<float>(i)) * (i % 300 == 7 ? 90'000.0f : 3.0f));
  sent.hidden[64] = std::numeric_limits<float>::quiet_NaN();
  const auto arrives = [&](RowFormat format, size_t& bytes) {
    sent.format = format;
    const auto frame = to_bytes({1, 1, sent});
    bytes = frame.size();
    FrameReader reader;
    std::ranges::copy(frame, reader.room().begin());
    reader.put(frame.size());
    return std::get<StepAnswer>(reader.next().value().value().message).hidden;
  };
  size_t f32 = 0, i16 = 0, i8 = 0;
  const auto exact = arrives(RowFormat::kF32, f32), near = arrives(RowFormat::kI16, i16),
             rough = arrives(RowFormat::kI8, i8);
  EXPECT_LT(i16 * 100, f32 * 55);
  EXPECT_LT(i8 * 100, f32 * 30);
  ASSERT_EQ(near.size(), exact.size());
  for (size_t i = 0; i < exact.size(); ++i) {
    if (std::isnan(exact[i])) continue;
    float most = 0;
    for (size_t j = i / 64 * 64; j < std::min(exact.size(), i / 64 * 64 + 64); ++j)
      most = std::max(most, std::isnan(exact[j]) ? 0 : std::abs(exact[j]));
    EXPECT_NEAR(near[i], exact[i], most / 65'000);
    EXPECT_NEAR(rough[i], exact[i], most / 253);
  }
}

TEST(Wire, EveryKindArrivesAsItWasSent) {
  std::vector<Frame> sent;
  SessionId session{};
  session[3] = std::byte{9};
  sent.push_back({1, 2, Hello{LinkClass::kResults, session}});
  sent.push_back({7, 0,
                  Assign{.model = {std::byte{1}},
                         .pack_bytes = 1ull << 34,
                         .layers = {3, 9},
                         .context = 4096,
                         .rows_max = 64,
                         .kv_type = KvType::kI8,
                         .positions_max = 8192,
                         .sequences_max = 70,
                         .next = "10.0.0.2:7950",
                         .keep = true,
                         .peers = {{"10.0.0.2:7950", {0, 4}}, {"10.0.0.3:7950", {4, 9}}},
                         .self = 1,
                         .cuts = {5, 8},
                         .rows = RowFormat::kI8}});
  sent.push_back({7, 0, Ready{true, 40, 25, 1500}});
  sent.push_back({7, 12, some_step()});
  sent.push_back({7, 12, StepAnswer{{3.0f, 4.0f}}});
  sent.push_back({7, 0, Ping{}});
  sent.push_back({7, 12, Pong{250}});
  sent.push_back({7, 0, Failure{Failure::Of::kNext, "no route"}});
  sent.push_back({7, 0, Fetch{1ull << 33, 4096}});
  sent.push_back({7, 0, PackPiece{1ull << 33, bytes_of("weights")}});
  sent.push_back({0, 0, Enrol{"secret", "request"}});
  sent.push_back({0, 0, Enrolled{"certificate", "authority"}});
  sent.push_back({0, 0, Want{{std::byte{7}}, 1ull << 33, 4096}});
  sent.push_back({7, 0, CopyTo{{3, 9}, "10.0.0.4:7950"}});
  sent.push_back(
      {7, 12, CopyPart{{3, 9}, true, {{5, 70, {1, 8, 2}}, {6, 0, {}}}, {8, 2}, bytes_of("keys and values")}});
  sent.push_back({7, 0, Copied{{3, 9}, true, 12}});
  sent.push_back({7, 0, Leaving{}});
  sent.push_back({1, 5, HeadRows{40, {1.5f, -2.0f}}});
  sent.push_back({1, 5, HeadAnswer{{7, 3}, {4.0f, 1.5f}}});
  ASSERT_EQ(sent.size(), std::variant_size_v<Message>);
  std::vector<std::byte> bytes;
  for (const Frame& frame : sent) {
    const auto more = to_bytes(frame);
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  for (const size_t at_once : {size_t{1}, size_t{29}, bytes.size()}) {
    const auto frames = read(bytes, at_once);
    ASSERT_TRUE(frames) << frames.error().message;
    ASSERT_EQ(frames->size(), sent.size());
    for (size_t i = 0; i < sent.size(); ++i) {
      EXPECT_EQ((*frames)[i].epoch, sent[i].epoch);
      EXPECT_EQ((*frames)[i].step, sent[i].step);
      EXPECT_EQ(to_bytes((*frames)[i]), to_bytes(sent[i])) << i;
    }
    const auto& assign = std::get<Assign>((*frames)[1].message);
    EXPECT_EQ(assign.layers.end, 9);
    EXPECT_EQ(assign.next, "10.0.0.2:7950");
    const auto& step = std::get<Step>((*frames)[3].message);
    EXPECT_EQ(step.ops, some_step().ops);
    EXPECT_EQ(step.rows, some_step().rows);
    EXPECT_EQ(step.hidden, some_step().hidden);
  }
}

TEST(Wire, AFlippedBitIsFound) {
  const auto whole = to_bytes({3, 4, some_step()});
  for (size_t bit = 32; bit < whole.size() * 8; ++bit) {  // behind the length, which can also mean: wait for more
    auto flipped = whole;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_FALSE(read(flipped, whole.size())) << bit;
  }
}

// The payload of a frame, changed, under a checksum that is right.
bool accepted(std::vector<std::byte> frame, size_t at, uint32_t value) {
  std::memcpy(frame.data() + kFrameHeaderBytes + at, &value, sizeof value);
  const uint32_t crc = crc32c(std::span(frame).subspan(8));
  std::memcpy(frame.data() + 4, &crc, sizeof crc);
  return read(frame, frame.size()).has_value();
}

TEST(Wire, RefusesCountsAndSizesThatCannotBe) {
  const auto step = to_bytes({3, 4, some_step()});
  EXPECT_TRUE(accepted(step, 0, 2));
  EXPECT_FALSE(accepted(step, 0, 3)) << "operations that are not there";
  EXPECT_FALSE(accepted(step, 0, 0xffffffff));
  const size_t rows = 4 + 2 * 9;
  EXPECT_TRUE(accepted(step, rows, 2));
  EXPECT_FALSE(accepted(step, rows, 1)) << "bytes are left";
  EXPECT_FALSE(accepted(step, rows + 12, 0)) << "a part without rows";
  EXPECT_FALSE(accepted(step, rows + 12, 0xffffffff)) << "less than none";
  EXPECT_FALSE(accepted(step, rows + 12, 2)) << "four rows of six values";
  EXPECT_FALSE(accepted(step, rows + 4, 0x80000000)) << "a sequence below zero";
  const auto pong = to_bytes({1, 0, Pong{7}});
  EXPECT_TRUE(accepted(pong, 4, 1));
  EXPECT_FALSE(accepted(pong, 4, 0x7fffffff)) << "busy for longer than can be calculated with";
  const auto assign = to_bytes({1, 0, Assign{.layers = {2, 4}, .context = 8, .rows_max = 8, .next = ""}});
  EXPECT_TRUE(accepted(assign, 41, 3));
  EXPECT_FALSE(accepted(assign, 41, 5)) << "layers that end before they begin";
  EXPECT_FALSE(accepted(assign, 45, limits::kLayers + 1));
  const auto head_rows = to_bytes({1, 5, HeadRows{40, {1.5f, -2.0f}}});
  EXPECT_TRUE(accepted(head_rows, 0, limits::kHeadTokens));
  EXPECT_FALSE(accepted(head_rows, 0, limits::kHeadTokens + 1));
  EXPECT_FALSE(accepted(head_rows, 4, 3)) << "values that are not there";
  const auto answer = to_bytes({1, 5, HeadAnswer{{7, 3}, {4.0f, 1.5f}}});
  EXPECT_TRUE(accepted(answer, 4, 8));
  EXPECT_FALSE(accepted(answer, 4, 0x80000000)) << "a token below zero";
  EXPECT_FALSE(accepted(to_bytes({1, 5, HeadAnswer{{7, 3}, {4.0f}}}), 4, 7)) << "a token without its logit";
  const auto fetch = to_bytes({1, 0, Fetch{0, 16}});
  EXPECT_FALSE(accepted(fetch, 8, limits::kPieceOfModelBytes + 1));
}

TEST(Wire, ALengthAloneTakesNoMemory) {
  FrameReader reader;
  auto frame = to_bytes({1, 0, Ping{}});
  const auto bytes = static_cast<uint32_t>(limits::kFrameBytes);
  std::memcpy(frame.data(), &bytes, sizeof bytes);
  std::memcpy(reader.room().data(), frame.data(), frame.size());
  reader.put(frame.size());
  EXPECT_FALSE(reader.next().value());
  EXPECT_LT(reader.room().size(), 1u << 20);
  const uint32_t more = bytes + 1;
  std::memcpy(frame.data(), &more, sizeof more);
  EXPECT_EQ(read(frame, frame.size()).error().code, Code::kLimit);
}

}  // namespace
}  // namespace hearth::cluster
