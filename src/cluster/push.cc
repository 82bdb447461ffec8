#include "cluster/push.h"

#include <mutex>
#include <thread>
#include <vector>

#include "cluster/frame_link.h"
#include "model/checkpoint.h"
#include "model/pack.h"
#include "vault/key.h"

namespace hearth::cluster {
namespace {

constexpr std::chrono::milliseconds kDialPatience{5000}, kSendPatience{120'000};

class Push {
 public:
  Push(const Checkpoint& pack, const std::function<void(uint64_t, uint64_t)>& progress)
      : file_(pack.files().front().bytes()), progress_(progress) {}

  // One machine, until it has all.
  Result<void> serve(const SiteTls& tls, const ListenAddress& node, const Assign& assign) {
    const auto link = TRY(PeerLink::dial(tls, node, kDialPatience));
    SessionId session{};
    fill_random(session);
    TRY(link->send_all(to_bytes({1, 0, Hello{LinkClass::kControl, session}}), kSendPatience));
    TRY(link->send_all(to_bytes({1, 0, assign}), kSendPatience));
    FrameReader reader;
    TRY(give_pieces(*link, reader, file_, kForever, [this](uint64_t, size_t bytes) { tell(bytes); }));
    return {};
  }
  [[nodiscard]] uint64_t sent() const { return sent_; }

 private:
  void tell(size_t bytes) {
    const std::scoped_lock lock(mutex_);
    sent_ += bytes;
    if (progress_) progress_(sent_, file_.size());
  }

  std::span<const std::byte> file_;
  const std::function<void(uint64_t, uint64_t)>& progress_;
  std::mutex mutex_;
  uint64_t sent_ = 0;
};

}  // namespace

Result<Ready> give_pieces(PeerLink& link, FrameReader& reader, std::span<const std::byte> pack,
                          std::chrono::milliseconds patience,
                          const std::function<void(uint64_t offset, size_t bytes)>& given) {
  for (;;) {
    Frame frame = TRY(next_frame(link, reader, patience));
    if (const auto* ready = std::get_if<Ready>(&frame.message)) return *ready;
    if (const auto* failure = std::get_if<Failure>(&frame.message)) return fail(Code::kIo, "{}", failure->message);
    if (std::holds_alternative<Leaving>(frame.message)) return fail(Code::kIo, "{} wants no work now", link.peer());
    const auto* fetch = std::get_if<Fetch>(&frame.message);
    if (!fetch) return fail(Code::kMalformed, "{} says what nobody says who fetches", link.peer());
    PackPiece piece = cut_piece(pack, *fetch);
    const size_t bytes = piece.bytes.size();
    TRY(link.send_all(to_bytes({1, 0, std::move(piece)}), kSendPatience));
    given(fetch->offset, bytes);
  }
}

Result<PushStats> push_pack(const std::filesystem::path& pack, const SiteTls& tls, std::span<const ListenAddress> nodes,
                            const std::function<void(uint64_t sent, uint64_t pack)>& progress) {
  const Checkpoint checkpoint = TRY(open_checkpoint(pack));
  if (!checkpoint.packed()) return fail(Code::kInvalidArgument, "{}: only packs are pushed", pack.string());
  Assign assign{.model = TRY(pack_source(checkpoint.files().front().bytes())),
                .pack_bytes = checkpoint.file_bytes(),
                .next = "",
                .keep = true};
  for (const ListenAddress& node : nodes) assign.peers.push_back({node.text, {}});
  Push push(checkpoint, progress);
  std::vector<Result<void>> results(nodes.size());
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < nodes.size(); ++i)
      threads.emplace_back([&, i, mine = assign]() mutable {
        mine.self = static_cast<uint32_t>(i);
        results[i] = push.serve(tls, nodes[i], mine);
      });
  }
  std::string trouble;
  for (size_t i = 0; i < nodes.size(); ++i)
    if (!results[i])
      trouble += fmt::format("{}{}: {}", trouble.empty() ? "" : "; ", nodes[i].text, results[i].error().message);
  if (!trouble.empty()) return fail(Code::kIo, "{}", trouble);
  return PushStats{.pack_bytes = checkpoint.file_bytes(), .sent_bytes = push.sent()};
}

}  // namespace hearth::cluster
