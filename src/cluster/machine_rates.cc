#include "cluster/machine_rates.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "base/direct_file.h"
#include "cluster/frame_link.h"
#include "tensor/type.h"
#include "vault/key.h"

namespace hearth::cluster {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 4, kPings = 3;
constexpr std::chrono::milliseconds kLook{1000}, kTransfer{20'000};

double seconds_since(Clock::time_point begin) {
  return std::max(std::chrono::duration<double>(Clock::now() - begin).count(), 1e-9);
}

}  // namespace

Result<MachineRates> measure_rates(Backend& backend) {
  constexpr int64_t kSide = 2048;
  constexpr int kMatrices = 17, kRows = 64, kPromptMatrices = 4;  // more than caches hold, on the machines this is for
  const uint64_t bytes = *row_bytes(info(Type::kQ4_0), kSide) * kSide;
  const std::vector<std::byte> values(bytes, std::byte{0x11});
  std::vector<std::unique_ptr<Weight>> matrices;
  for (int i = 0; i < kMatrices; ++i)
    matrices.push_back(
        TRY(backend.load({.type = Type::kQ4_0, .rows = kSide, .cols = kSide, .data = {values}, .consumed = {}})));
  const auto in = TRY(backend.allocate(kRows * kSide * 4)), out = TRY(backend.allocate(kRows * kSide * 4));
  const std::vector<float> ones(kRows * kSide, 1.0f);
  backend.upload(*in, 0, std::as_bytes(std::span(ones)));
  const auto bytes_per_second = [&](int rows, int n_matrices, int rounds) {
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
      double read = 0;
      const auto begin = Clock::now();
      for (int i = 0; i < n_matrices; ++i) {
        const Weight& matrix = *matrices[static_cast<size_t>(i)];
        const LinearPart part{.weight = &matrix, .out = {out.get(), 0, rows, kSide, kSide}};
        backend.linear({.x = {in.get(), 0, rows, kSide, kSide}}, {&part, 1});
        read += static_cast<double>(matrix.bytes()) * static_cast<double>(rows);
      }
      best = std::max(best, read / seconds_since(begin));
    }
    return best;
  };
  return MachineRates{.bytes_per_second = bytes_per_second(1, kMatrices, kRounds),
                      .prompt_bytes_per_second = bytes_per_second(kRows, kPromptMatrices, 2)};
}

Result<double> measure_disk(const std::filesystem::path& file) {
  constexpr uint64_t kPieceBytes = 4u << 20, kBytesMax = 64u << 20;
  const DirectFile direct = TRY(DirectFile::open(file));
  std::vector<std::byte> room(kPieceBytes + DirectFile::kAlignment);
  void* aligned = room.data();
  size_t left = room.size();
  const std::span piece(static_cast<std::byte*>(std::align(DirectFile::kAlignment, kPieceBytes, aligned, left)),
                        kPieceBytes);
  const uint64_t end = std::min(direct.bytes(), kBytesMax);
  const auto begin = Clock::now();
  for (uint64_t at = 0; at < end; at += kPieceBytes) TRY(direct.read(at, piece));
  return static_cast<double>(end) / seconds_since(begin);
}

Result<LinkRates> measure_link(const SiteTls& tls, const ListenAddress& node) {
  const auto link = TRY(PeerLink::dial(tls, node, kLook));
  SessionId look{};
  fill_random(look);
  TRY(link->send_all(to_bytes({0, 0, Hello{LinkClass::kControl, look}}), kLook));
  FrameReader reader;
  const auto ping = [&](size_t padding, std::chrono::milliseconds patience) -> Result<double> {
    const std::vector<std::byte> frame = to_bytes({0, 0, Ping{std::vector<std::byte>(padding)}});
    const auto begin = Clock::now();
    TRY(link->send_all(frame, patience));
    TRY(next_frame(*link, reader, patience));
    return seconds_since(begin);
  };
  double there_and_back = TRY(ping(0, kLook));
  for (int i = 1; i < kPings; ++i) there_and_back = std::min(there_and_back, TRY(ping(0, kLook)));
  // More on a fast link, where little of it would be lost in the noise; a slow one is not kept busy for long.
  LinkRates rates{.seconds = there_and_back / 2, .bytes_per_second = 0};
  for (const size_t bytes : {size_t{16} << 10, size_t{256} << 10, size_t{2} << 20}) {
    const double took = TRY(ping(bytes, kTransfer));
    rates.bytes_per_second = static_cast<double>(bytes) / std::max(took - there_and_back, 1e-6);
    if (took > 10 * there_and_back && took > 0.02) break;
  }
  return rates;
}

}  // namespace hearth::cluster
