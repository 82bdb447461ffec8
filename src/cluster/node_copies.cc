// Copies of a piece's state: out of it while it works, into one that waits for its turn.
#include "base/log.h"
#include "cluster/node_session.h"

namespace hearth::cluster {
namespace {

constexpr std::chrono::milliseconds kDialPatience{1000}, kSendPatience{30'000}, kPause{30};
constexpr uint64_t kPartBytes = 2u << 20;
// Of the time, so much is for the copy at most: its link and its machine have other work.
constexpr int kShare = 4;

}  // namespace

void NodeSession::copy_to(uint64_t epoch, CopyTo copy) {
  std::jthread& copier = copiers_[copy.layers.first];
  copier.request_stop();
  {
    const std::scoped_lock lock(mutex_);
    if (const auto link = copy_links_.find(copy.layers.first); link != copy_links_.end()) link->second->close();
    changed_.notify_all();
  }
  // The one before is not waited for here, where pings are answered.
  copier = std::jthread(
      [this, epoch, copy = std::move(copy), before = std::move(copier)](const std::stop_token& stop) mutable {
        if (before.joinable()) before.join();
        if (auto done = copy_out(stop, epoch, copy); !done)
          LOG(kInfo, "epoch {}: no more copies of layers {} to {}: {}", epoch, copy.layers.first, copy.layers.end,
              done.error().message);
      });
}

// Until the epoch ends, or nobody takes it.
Result<void> NodeSession::copy_out(const std::stop_token& stop, uint64_t epoch, const CopyTo& copy) {
  const ListenAddress to = TRY(parse_listen_address(copy.to));
  const std::shared_ptr<PeerLink> link = TRY(PeerLink::dial(*node_.options_.tls, to, kDialPatience));
  {
    const std::scoped_lock lock(mutex_);
    if (over_) return {};
    copy_links_[copy.layers.first] = link;
  }
  TRY(link->send_all(to_bytes({epoch, 0, Hello{LinkClass::kCopies, id_}}), kSendPatience));
  std::vector<int32_t> due;
  for (uint64_t sent = UINT64_MAX; !stop.stop_requested();) {
    const auto part = next_part(epoch, copy.layers, due, sent);
    if (!part) return {};
    const auto begin = std::chrono::steady_clock::now();
    if (!std::get<CopyPart>(part->message).pages.empty() || std::get<CopyPart>(part->message).whole)
      TRY(link->send_all(to_bytes(*part), kSendPatience));
    const auto took = std::chrono::steady_clock::now() - begin;
    std::unique_lock lock(mutex_);
    const std::chrono::steady_clock::duration least = due.empty() ? kPause : std::chrono::milliseconds(0);
    changed_.wait_for(lock, std::max(least, kShare * took),
                      [&] { return over_ || assigned_ != epoch || stop.stop_requested(); });
    if (over_ || assigned_ != epoch) return {};
  }
  return {};
}

// What of the state is new, or some of that; empty where nothing is. `due`: pages that are still to be sent; `sent`: the step as of which
// it was whole, at first none. None: the epoch is over.
std::optional<Frame> NodeSession::next_part(uint64_t epoch, LayerRange range, std::vector<int32_t>& due,
                                            uint64_t& sent) {
  const std::scoped_lock lock(steps_mutex_);
  Pieces::Piece* piece = pieces_.find_piece(epoch, range);
  if (!piece) return std::nullopt;
  SequenceStore& store = piece->layers.stage->store();
  CopyPart part{.layers = range, .whole = false, .tables = {}, .pages = {}, .bytes = {}};
  const bool first = sent == UINT64_MAX;
  Frame frame{.epoch = epoch, .step = piece->steps.done(), .message = {}};
  if (!first && due.empty() && sent == frame.step) return Frame{epoch, frame.step, std::move(part)};
  for (const int32_t page : store.take_changed_pages()) due.push_back(page);
  const auto tables = store.tables();
  if (first)
    for (const auto& table : tables) due.insert(due.end(), table.pages.begin(), table.pages.end());
  std::ranges::sort(due);
  due.erase(std::ranges::unique(due).begin(), due.end());
  const auto bytes = static_cast<uint64_t>(store.page_bytes());
  const auto n = std::min<uint64_t>(due.size(), std::max<uint64_t>(1, kPartBytes / bytes));
  part.pages.assign(due.end() - static_cast<ptrdiff_t>(n), due.end());
  due.resize(due.size() - n);
  part.bytes.resize(n * bytes);
  for (size_t i = 0; i < n; ++i) (void)store.read_page(part.pages[i], std::span(part.bytes).subspan(i * bytes, bytes));
  part.whole = due.empty();
  if (part.whole) part.tables = tables;
  sent = part.whole ? frame.step : 0;
  frame.message = std::move(part);
  return frame;
}

bool NodeSession::take_copy(uint64_t epoch, uint64_t done, const CopyPart& part) {
  {
    const std::scoped_lock lock(steps_mutex_);
    Pieces::Piece* piece = pieces_.find_copy(epoch, part.layers);
    if (!piece) return false;
    SequenceStore& store = piece->layers.stage->store();
    const auto bytes = static_cast<size_t>(store.page_bytes());
    piece->whole = false;
    if (part.bytes.size() != part.pages.size() * bytes) return false;
    for (size_t i = 0; i < part.pages.size(); ++i)
      if (!store.write_page(part.pages[i], std::span(part.bytes).subspan(i * bytes, bytes))) return false;
    if (!part.whole) return true;
    if (auto took = store.take_tables(part.tables); !took) {
      LOG(kWarning, "a copy from elsewhere: {}", took.error().message);
      return false;
    }
    piece->steps.set_done(done);
    piece->whole = true;
  }
  say(epoch, Copied{part.layers, true, done});
  return true;
}

}  // namespace hearth::cluster
