#include "cluster/remote_head.h"

#include <algorithm>
#include <cmath>

#include "base/limits.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "cluster/push.h"
#include "cluster/stage.h"
#include "model/checkpoint.h"
#include "model/pack.h"
#include "vault/key.h"

namespace hearth::cluster {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kDialPatience{1000}, kSendPatience{10'000};
// While the machine loads; while nothing goes there when this one starts.
constexpr milliseconds kReadyPatience{120'000}, kStartPatience{10'000};
constexpr int kTrusted = 100;      // answers, until what was before is forgotten
constexpr double kUsual = 4;       // times what a row took
constexpr double kLearns = 0.1;    // of a new measurement
constexpr double kSlowLink = 1e6;  // bytes a second

}  // namespace

Result<std::shared_ptr<RemoteHead>> RemoteHead::create(RemoteHeadOptions options, const std::filesystem::path& pack,
                                                       size_t d_model, size_t n_vocab) {
  const Checkpoint checkpoint = TRY(open_checkpoint(pack));
  if (!checkpoint.packed())
    return fail(Code::kInvalidArgument, "{}: a head elsewhere needs the model's pack; run without --no-cache",
                pack.string());
  const Digest model = TRY(pack_source(checkpoint.files().front().bytes()));
  std::shared_ptr<RemoteHead> head(new RemoteHead(std::move(options), pack, model, d_model, n_vocab));
  head->pause_ = head->options_.pause;
  head->begin_dialling();
  for (uint64_t given = ~0ull; given != head->n_given_;) {
    given = head->n_given_;
    if (head->dialling_.wait_for(kStartPatience) == std::future_status::ready) break;
  }
  if (const auto connected = head->connected(); !connected && head->dialling_.valid())
    LOG(kWarning, "--head {}: not ready yet; this machine computes it until it is", head->options_.node.text);
  return head;
}

RemoteHead::~RemoteHead() {
  const std::scoped_lock lock(dialled_mutex_);
  ending_ = true;
  if (dialled_) dialled_->close();
}

void RemoteHead::begin_dialling() {
  dialling_ = std::async(std::launch::async, [this] { return dial(); });
}

// Until the machine has the head, with what it does not have of the pack, and has tried it.
Result<RemoteHead::Link> RemoteHead::dial() {
  Link made;
  made.link = TRY(PeerLink::dial(*options_.tls, options_.node, kDialPatience));
  {
    const std::scoped_lock lock(dialled_mutex_);
    if (ending_) return fail(Code::kCancelled, "nobody needs it any more");
    dialled_ = made.link;
  }
  SessionId session{};
  fill_random(session);
  const Checkpoint checkpoint = TRY(open_checkpoint(pack_));
  const Assign assign{.kind = Assign::Kind::kHead, .model = model_, .pack_bytes = checkpoint.file_bytes(), .next = ""};
  TRY(made.link->send_all(to_bytes({1, 0, Hello{LinkClass::kControl, session}}), kSendPatience));
  TRY(made.link->send_all(to_bytes({1, 0, assign}), kSendPatience));
  const MappedFile& pack = checkpoint.files().front();
  const Ready ready =
      TRY(give_pieces(*made.link, made.reader, pack.bytes(), kReadyPatience, [&](uint64_t offset, size_t bytes) {
        n_given_ += bytes;
        pack.release(offset, bytes);  // it is not to be in memory here
      }));
  made.row_seconds = 1e-6 * ready.warm_up_us;
  return made;
}

// Whether there is a connection by now; a new one is tried when it is time.
Result<void> RemoteHead::connected() {
  if (link_.link) return {};
  if (!dialling_.valid()) {
    if (Clock::now() < next_try_) return fail(Code::kBusy, "{} is not to be had", options_.node.text);
    begin_dialling();
  }
  if (dialling_.wait_for(milliseconds(0)) != std::future_status::ready)
    return fail(Code::kBusy, "{} is not ready", options_.node.text);
  auto made = dialling_.get();
  {
    const std::scoped_lock lock(dialled_mutex_);
    dialled_ = nullptr;  // else it would stay open when it is given up
  }
  if (!made) {
    put_off(made.error().message);
    return std::unexpected(made.error());
  }
  link_ = std::move(*made);
  answers_ = 0;
  LOG(kInfo, "{} has the head, and takes {:.2f} ms for a row", options_.node.text, 1e3 * link_.row_seconds);
  return {};
}

void RemoteHead::put_off(const std::string& why) {
  if (pause_ == options_.pause)
    LOG(kWarning, "--head {}: {}; this machine computes it until that one is back", options_.node.text, why);
  else
    LOG(kInfo, "--head {}: {}", options_.node.text, why);
  ++n_losses_;
  link_ = Link();
  next_try_ = Clock::now() + pause_;
  pause_ = std::min(2 * pause_, options_.pause_max);
}

Result<void> RemoteHead::most_likely(std::span<const float> rows, int count, std::span<int32_t> tokens,
                                     std::span<float> logits) {
  return ask_all(rows, static_cast<uint32_t>(count), [&](const HeadAnswer& answer, size_t first_row) {
    const auto at = static_cast<std::ptrdiff_t>(first_row) * count;
    std::ranges::copy(answer.tokens, tokens.begin() + at);
    std::ranges::copy(answer.logits, logits.begin() + at);
  });
}

Result<void> RemoteHead::logits(std::span<const float> rows, std::span<float> out) {
  return ask_all(rows, 0, [&](const HeadAnswer& answer, size_t first_row) {
    std::ranges::copy(answer.logits, out.begin() + static_cast<std::ptrdiff_t>(first_row * n_vocab_));
  });
}

template <typename Take>
Result<void> RemoteHead::ask_all(std::span<const float> rows, uint32_t count, Take take) {
  if (count > limits::kHeadTokens) return fail(Code::kLimit, "{} tokens of a row", count);
  TRY(connected());
  const size_t at_once = d_model_ * std::min<size_t>(kHeadRows, head_rows_max(count, n_vocab_));
  for (size_t first = 0; first < rows.size(); first += at_once) {
    const auto answer = ask(rows.subspan(first, std::min(at_once, rows.size() - first)), count);
    if (!answer) {
      put_off(answer.error().message);
      return std::unexpected(answer.error());
    }
    take(*answer, first / d_model_);
  }
  if (++answers_ == kTrusted) pause_ = options_.pause;
  return {};
}

Result<HeadAnswer> RemoteHead::ask(std::span<const float> rows, uint32_t count) {
  const size_t n_rows = rows.size() / d_model_;
  const auto begin = Clock::now();
  TRY(link_.link->send(to_bytes({1, ++asked_, HeadRows{count, {rows.begin(), rows.end()}}})));
  HeadAnswer answer = TRY(wait_for_answer(n_rows, rows.size_bytes() + 4 * n_rows * (count > 0 ? 2 * count : n_vocab_)));
  TRY(check(answer, n_rows, count));
  const double took = std::chrono::duration<double>(Clock::now() - begin).count() / static_cast<double>(n_rows);
  link_.row_seconds += kLearns * (took - link_.row_seconds);
  n_rows_ += n_rows;
  return answer;
}

Result<HeadAnswer> RemoteHead::wait_for_answer(size_t n_rows, size_t bytes) {
  const auto in_ms = [](double seconds) { return milliseconds(static_cast<int64_t>(1e3 * seconds)); };
  const auto patience = options_.patience + in_ms(kUsual * link_.row_seconds * static_cast<double>(n_rows));
  auto until = Clock::now() + patience;
  const auto at_last = until + in_ms(static_cast<double>(bytes) / kSlowLink);
  for (;;) {
    if (link_.link->unsent()) TRY(link_.link->send({}));
    const size_t got = TRY(link_.link->receive(link_.reader.room()));
    link_.reader.put(got);
    if (auto frame = TRY(link_.reader.next())) {
      if (auto* answer = std::get_if<HeadAnswer>(&frame->message); answer && frame->step == asked_)
        return std::move(*answer);
      if (const auto* failure = std::get_if<Failure>(&frame->message)) return fail(Code::kIo, "{}", failure->message);
      if (std::holds_alternative<Leaving>(frame->message)) return fail(Code::kIo, "it wants no work now");
      return fail(Code::kMalformed, "it says what a head does not say");
    }
    const auto now = Clock::now();
    if (got > 0 || link_.link->unsent()) until = std::min(now + patience, at_last);
    if (now >= until)
      return fail(Code::kIo, "no answer for {} ms", std::chrono::duration_cast<milliseconds>(patience).count());
    if (got == 0) link_.link->wait(std::chrono::ceil<milliseconds>(until - now));
  }
}

// That nothing the engine does with it can go wrong.
Result<void> RemoteHead::check(const HeadAnswer& answer, size_t n_rows, uint32_t count) const {
  const size_t n = count > 0 ? count : n_vocab_, tokens = count > 0 ? n_rows * n : 0;
  if (answer.logits.size() != n_rows * n || answer.tokens.size() != tokens)
    return fail(Code::kMalformed, "{} logits of {} tokens instead of {} of {}", answer.logits.size(),
                answer.tokens.size(), n_rows * n, tokens);
  if (!std::ranges::all_of(answer.logits, [](float each) { return std::isfinite(each); }))
    return fail(Code::kMalformed, "a logit that is no number");
  for (size_t i = 0; i < tokens; ++i) {
    const bool first = i % n == 0;
    if (std::cmp_greater_equal(answer.tokens[i], n_vocab_) ||
        (!first && (answer.logits[i] > answer.logits[i - 1] ||
                    (answer.logits[i] == answer.logits[i - 1] && answer.tokens[i] <= answer.tokens[i - 1]))))
      return fail(Code::kMalformed, "token {} is not the one of rank {}", answer.tokens[i], i % n);
  }
  return {};
}

}  // namespace hearth::cluster
