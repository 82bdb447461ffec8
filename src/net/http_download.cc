#include "net/http_download.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <thread>

#include "base/descriptor.h"
#include "base/file_io.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace hearth {
namespace {
namespace json = boost::json;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kStateBytes = 64u << 10;
constexpr uint64_t kDiskReserveBytes = 16u << 20;  // left free for everybody else
constexpr int kAttemptsMax = 1000;
constexpr auto kLongestPause = std::chrono::milliseconds(8000);
constexpr auto kProgressInterval = std::chrono::milliseconds(100);

// Which version of which URL the part belongs to.
struct PartState {
  std::string url, etag, last_modified;
  std::optional<uint64_t> total;

  // What If-Range may carry: a strong ETag, else a date.
  [[nodiscard]] std::string validator() const {
    return !etag.empty() && !etag.starts_with("W/") ? etag : last_modified;
  }
};

std::string text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

// An unreadable state means starting again, never an error.
std::optional<PartState> read_state(const std::filesystem::path& path) {
  const auto text = read_file(path, kStateBytes);
  if (!text) return std::nullopt;
  const auto root = parse_json(*text);
  const json::object* object = root ? root->if_object() : nullptr;
  if (!object) return std::nullopt;
  PartState state{text_of(*object, "url"), text_of(*object, "etag"), text_of(*object, "last_modified"), {}};
  if (const json::value* total = object->if_contains("total"); total && total->is_int64() && total->get_int64() >= 0) {
    state.total = static_cast<uint64_t>(total->get_int64());
  }
  return state;
}

Result<void> write_state(const std::filesystem::path& path, const PartState& state) {
  json::object object{{"url", state.url}, {"etag", state.etag}, {"last_modified", state.last_modified}};
  if (state.total) object["total"] = *state.total;
  const std::string text = json::serialize(object);
  return write_file_atomically(path, std::as_bytes(std::span(text)));
}

// "bytes 100-199/200" or "bytes */200".
struct ContentRange {
  std::optional<uint64_t> first;
  std::optional<uint64_t> total;
};

ContentRange parse_content_range(std::string_view text) {
  ContentRange range;
  if (!text.starts_with("bytes ")) return range;
  text.remove_prefix(6);
  uint64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc()) range.first = value;
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return range;
  text.remove_prefix(slash + 1);
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc()) range.total = value;
  return range;
}

class Download {
 public:
  explicit Download(const DownloadRequest& request) : request_(request), state_path_(request.part) {
    state_path_ += ".state";
  }

  Result<uint64_t> run();

 private:
  enum class Outcome { kDone, kAgain };

  Result<void> open_part();
  Result<void> discard();
  Result<Outcome> attempt();
  Result<void> take_head(const HttpAnswer& answer);
  Result<void> begin_again(const HttpAnswer& answer);
  Result<void> check_total() const;
  Result<void> take_body(std::span<const std::byte> bytes);
  Result<Outcome> judge(const HttpAnswer& answer);
  Result<void> pause(int attempts_without_progress, int retry_after_seconds);
  void report(bool last);
  [[nodiscard]] std::vector<std::string> range_headers() const;
  [[nodiscard]] std::optional<uint64_t> total() const { return request_.bytes ? request_.bytes : state_.total; }
  [[nodiscard]] bool resumable() const { return !state_.validator().empty() || request_.digest_follows; }
  [[nodiscard]] bool cancelled() const { return request_.http.cancel && request_.http.cancel->load(); }

  const DownloadRequest& request_;
  std::filesystem::path state_path_;
  Descriptor file_;
  PartState state_;
  uint64_t offset_ = 0;    // bytes in the part
  bool unusable_ = false;  // the answer does not fit the part: start again
  int retry_after_seconds_ = 0;
  std::string reason_;  // why the last attempt ended

  // Rate: bytes since a mark that moves every few seconds.
  Clock::time_point reported_{}, rate_mark_ = Clock::now();
  uint64_t rate_mark_bytes_ = 0;
  double bytes_per_second_ = 0;
};

Result<void> Download::open_part() {
  file_ = Descriptor(::open(request_.part.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!file_) return disk_error(request_.part, "open");
  struct stat status{};
  if (::fstat(file_.get(), &status) != 0) return disk_error(request_.part, "read its size");
  if (!S_ISREG(status.st_mode)) return fail(Code::kIo, "{}: not a regular file", request_.part.string());
  offset_ = static_cast<uint64_t>(status.st_size);
  const auto state = read_state(state_path_);
  const bool ours = state && state->url == request_.url.shown();
  if (ours) state_ = *state;
  if (offset_ > 0 && (!ours || !resumable() || (total() && offset_ > *total()))) return discard();
  return {};
}

Result<void> Download::discard() {
  if (::ftruncate(file_.get(), 0) != 0) return disk_error(request_.part, "empty");
  offset_ = 0;
  rate_mark_bytes_ = 0;
  state_ = {request_.url.shown(), {}, {}, {}};
  return {};
}

std::vector<std::string> Download::range_headers() const {
  if (offset_ == 0) return {};
  std::vector<std::string> headers{fmt::format("Range: bytes={}-", offset_)};
  if (const std::string validator = state_.validator(); !validator.empty()) headers.push_back("If-Range: " + validator);
  return headers;
}

Result<void> Download::check_total() const {
  if (request_.bytes && state_.total && *state_.total != *request_.bytes) {
    return fail(Code::kCorrupt, "{}: the server has {} bytes, {} are expected", request_.url.shown(), *state_.total,
                *request_.bytes);
  }
  if (!total()) return {};
  if (*total() > request_.bytes_max) {
    return fail(Code::kLimit, "{}: {} bytes, at most {} are taken", request_.url.shown(), *total(), request_.bytes_max);
  }
  const uint64_t missing = *total() - std::min(offset_, *total());
  const uint64_t free = TRY(free_disk_bytes(request_.part.parent_path()));
  if (missing + kDiskReserveBytes <= free) return {};
  return fail(
      Code::kIo,
      "{}: {} MB are still to come and {} MB of disk are free; free some space or set HEARTH_HOME to another disk",
      request_.part.parent_path().string(), missing / 1'000'000, free / 1'000'000);
}

// 200: the whole file from its first byte, whatever we asked for.
Result<void> Download::begin_again(const HttpAnswer& answer) {
  TRY(discard());
  state_.etag = answer.etag;
  state_.last_modified = answer.last_modified;
  state_.total = answer.content_length;
  TRY(check_total());
  return write_state(state_path_, state_);
}

Result<void> Download::take_head(const HttpAnswer& answer) {
  if (answer.status != 200 && answer.status != 206) return {};
  if (!answer.content_encoding.empty() && answer.content_encoding != "identity") {
    return fail(Code::kUnsupported, "{}: sent with the encoding '{}' although none was asked for", request_.url.shown(),
                answer.content_encoding);
  }
  if (answer.status == 200) return begin_again(answer);
  const ContentRange range = parse_content_range(answer.content_range);
  const bool continues = offset_ > 0 && range.first == offset_ &&
                         (!range.total || !total() || *range.total == *total()) &&
                         (answer.etag.empty() || state_.etag.empty() || answer.etag == state_.etag);
  unusable_ = !continues;
  if (unusable_)
    return fail(Code::kIo, "{}: the rest the server offers does not fit what is here", request_.url.shown());
  if (range.total) state_.total = range.total;
  return check_total();
}

Result<void> Download::take_body(std::span<const std::byte> bytes) {
  const uint64_t end = offset_ + bytes.size();
  if (end > request_.bytes_max || (total() && end > *total())) {
    const uint64_t most = total() ? std::min(*total(), request_.bytes_max) : request_.bytes_max;
    return fail(Code::kLimit, "{}: the server sends more than {} bytes", request_.url.shown(), most);
  }
  TRY(write_at(file_.get(), offset_, bytes, request_.part));
  offset_ = end;
  report(false);
  return {};
}

// After an exchange that ended without a failure.
Result<Download::Outcome> Download::judge(const HttpAnswer& answer) {
  if (answer.status == 416) {
    if (total() && offset_ == *total()) return Outcome::kDone;
    reason_ = "the server does not have the range asked for";
    TRY(discard());
    return Outcome::kAgain;
  }
  if (answer.status != 200 && answer.status != 206) {
    TransferFailure failure = http_status_error(request_.url, answer, !request_.http.bearer_token.empty());
    retry_after_seconds_ = answer.retry_after_seconds;
    reason_ = failure.error.message;
    if (!failure.transient) return std::unexpected(std::move(failure.error));
    return Outcome::kAgain;
  }
  if (!total() || offset_ == *total()) return Outcome::kDone;
  reason_ = fmt::format("{}: the connection ended at byte {} of {}", request_.url.shown(), offset_, *total());
  return Outcome::kAgain;
}

Result<Download::Outcome> Download::attempt() {
  if (offset_ > 0 && !resumable()) TRY(discard());
  unusable_ = false;
  retry_after_seconds_ = 0;
  const TransferSink sink{[this](const HttpAnswer& answer) { return take_head(answer); },
                          [this](std::span<const std::byte> bytes) { return take_body(bytes); }};
  auto answer = http_get(request_.url, range_headers(), request_.http, sink);
  if (answer) return judge(*answer);
  reason_ = answer.error().error.message;
  if (unusable_) {
    TRY(discard());
    return Outcome::kAgain;
  }
  if (!answer.error().transient) return std::unexpected(std::move(answer).error().error);
  return Outcome::kAgain;
}

Result<void> Download::pause(int attempts_without_progress, int retry_after_seconds) {
  if (request_.retrying) request_.retrying(reason_);
  auto wait = std::min<std::chrono::milliseconds>(request_.first_pause * (1 << std::min(attempts_without_progress, 10)),
                                                  kLongestPause);
  wait = std::max<std::chrono::milliseconds>(
      wait, std::chrono::seconds(std::clamp(retry_after_seconds, 0, limits::kRetryAfterSeconds)));
  const auto end = Clock::now() + wait;
  while (Clock::now() < end) {
    if (cancelled()) return fail(Code::kCancelled, "cancelled");
    std::this_thread::sleep_for(std::min<Clock::duration>(end - Clock::now(), std::chrono::milliseconds(50)));
  }
  return {};
}

void Download::report(bool last) {
  const auto now = Clock::now();
  if (!request_.progress || (!last && now - reported_ < kProgressInterval)) return;
  reported_ = now;
  const double seconds = std::chrono::duration<double>(now - rate_mark_).count();
  if (seconds >= 1 || (bytes_per_second_ == 0 && seconds > 0.1)) {
    const double rate = static_cast<double>(offset_ - std::min(offset_, rate_mark_bytes_)) / seconds;
    bytes_per_second_ = bytes_per_second_ == 0 ? rate : 0.7 * bytes_per_second_ + 0.3 * rate;
    rate_mark_ = now;
    rate_mark_bytes_ = offset_;
  }
  request_.progress({offset_, total(), bytes_per_second_});
}

Result<uint64_t> Download::run() {
  TRY(open_part());
  rate_mark_bytes_ = offset_;
  if (request_.bytes && *request_.bytes > request_.bytes_max) {
    return fail(Code::kLimit, "{}: {} bytes, at most {} are taken", request_.url.shown(), *request_.bytes,
                request_.bytes_max);
  }
  int attempts = 0, attempts_without_progress = 0;
  uint64_t furthest = offset_;
  while (!(offset_ > 0 && total() && offset_ == *total())) {
    if (TRY(attempt()) == Outcome::kDone) break;
    // Measured against the furthest byte ever reached: a file that starts again each time makes no progress.
    attempts_without_progress = offset_ > furthest ? 0 : attempts_without_progress + 1;
    furthest = std::max(furthest, offset_);
    if (++attempts >= kAttemptsMax || attempts_without_progress >= request_.attempts_without_progress_max) {
      return fail(Code::kIo, "{} (gave up after {} attempts; what has come is kept, the same command continues)",
                  reason_, attempts);
    }
    TRY(pause(attempts_without_progress, retry_after_seconds_));
  }
  report(true);
  return offset_;
}

}  // namespace

Result<uint64_t> download(const DownloadRequest& request) { return Download(request).run(); }

}  // namespace hearth
