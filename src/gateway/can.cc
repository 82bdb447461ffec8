// CAN: frames from SocketCAN, from datagrams or from a log, each in candump's text form, made into values by a DBC file (dbc.h).
#include <fcntl.h>
#include <linux/can.h>
#include <linux/can/raw.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <thread>
#include <unordered_map>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "gateway/adapters.h"
#include "gateway/datagrams.h"
#include "gateway/dbc.h"
#include "gateway/profile.h"
#include "gateway/sample.h"
#include "net/event_loop.h"

namespace hearth::gateway {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{250};
constexpr int kFramesAtOnce = 256;

// A signal of the gateway and the one of the DBC that it is.
struct Field {
  SignalId signal = 0;
  size_t message = 0, place = 0;
  bool writable = false;
};

struct Options {
  std::string interface, file;
  std::optional<ListenAddress> listen, send;
  std::string from;  // of datagrams; empty: anyone
  bool log_time = true;
  milliseconds poll{100}, pause_max{30'000};
  Dbc dbc;
  std::vector<Field> fields;
  [[nodiscard]] std::string source() const {
    return !interface.empty() ? interface : !file.empty() ? file : "datagrams to " + listen->text;
  }
};

Result<ListenAddress> read_address(const ConfigTable& table, std::string_view key) {
  const std::string text = TRY(table.needed_text(key));
  auto address = parse_listen_address(text);
  if (!address || !address->unix_path.empty())
    return table.wrong(key, fmt::format("is \"{}\", has to be HOST:PORT or [IPV6]:PORT", text));
  return std::move(*address);
}

Result<> read_source(const ConfigTable& table, Options& options) {
  options.interface = TRY(table.text("interface", ""));
  options.file = TRY(table.text("file", ""));
  if (int{!options.interface.empty()} + int{!options.file.empty()} + int{table.has("listen")} != 1)
    return table.wrong("", "give one of interface (\"can0\"), file (a log of candump -l) and listen (\"HOST:PORT\")");
  if (options.interface.size() >= IFNAMSIZ)
    return table.wrong("interface", fmt::format("has {} bytes, at most {}", options.interface.size(), IFNAMSIZ - 1));
  options.from = TRY(table.text("from", ""));
  if (table.has("listen")) {
    options.listen = TRY(read_address(table, "listen"));
    if (!options.listen->loopback() && options.from.empty())
      return table.wrong("listen", "can be reached by other machines: give from, the address whose frames count");
  }
  if (table.has("send")) {
    options.send = TRY(read_address(table, "send"));
    if (!options.listen) return table.wrong("send", "goes with listen only: an interface is written to by itself");
  }
  options.log_time = TRY(table.flag("log_time", true));
  options.poll = TRY(table.duration("poll", options.poll));
  if (options.poll.count() < 10) return table.wrong("poll", "has to be 10ms or more");
  options.pause_max = TRY(table.duration("pause_max", options.pause_max));
  return {};
}

Result<Field> read_field(const ConfigTable& table, const SignalNames& names, std::span<const Signal> signals,
                         const Options& options) {
  Field field;
  field.signal = TRY(names.named(table, "signal"));
  const std::string message_name = TRY(table.needed_text("message")), name = TRY(table.needed_text("name"));
  const DbcMessage* message = options.dbc.find(message_name);
  if (message == nullptr) return table.wrong("message", fmt::format("the DBC file has no message {}", message_name));
  const DbcSignal* found = message->find(name);
  if (found == nullptr) return table.wrong("name", fmt::format("{} has no signal {}", message_name, name));
  if (found->extended_selection)
    return table.wrong("name", fmt::format("{} is selected in more than one step, which is not read", name));
  if (found->selected_by && message->selector() == nullptr)
    return table.wrong("name", fmt::format("{} is selected (m{}), but {} has no signal M: correct the DBC file", name,
                                           *found->selected_by, message_name));
  const Signal& signal = signals[field.signal];
  if (signal.type == SignalType::kText && found->texts.empty())
    return table.wrong("name", fmt::format("{} has no texts (VAL_): make {} a number", name, signal.name));
  field.message = message - options.dbc.messages.data();
  field.place = found - message->signals.data();
  field.writable = TRY(table.flag("writable", false));
  if (field.writable && !signal.write)
    return table.wrong("writable",
                       fmt::format("{} has no limits: give it [signal.write] with min, max and action", signal.name));
  if (field.writable && (!options.file.empty() || (options.listen && !options.send)))
    return table.wrong("writable", "nothing can be written here: a log takes none, and datagrams need send");
  if (auto finished = table.finish(); !finished) return std::unexpected(finished.error());
  return field;
}

// The value, as this type of signal has it; empty: a text that the DBC does not have, or no number.
std::optional<Value> decode(const DbcSignal& field, SignalType type, std::span<const uint8_t> data) {
  if (type == SignalType::kBool) return Value(field.raw(data) != 0);
  const double number = field.value(data);
  if (type == SignalType::kNumber) return Value(number);
  const std::string* text = field.text_of(number);
  return text == nullptr ? std::nullopt : std::optional(Value(*text));
}

std::optional<double> number_of(const DbcSignal& field, const Value& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return (*flag ? field.factor : 0) + field.offset;
  if (const auto* text = std::get_if<std::string>(&value)) return field.number_of(*text);
  return std::get<double>(value);
}

CanFrame frame_of(const canfd_frame& raw, bool fd) {
  CanFrame frame;
  frame.extended = (raw.can_id & CAN_EFF_FLAG) != 0;
  frame.remote = (raw.can_id & CAN_RTR_FLAG) != 0;
  frame.error = (raw.can_id & CAN_ERR_FLAG) != 0;
  frame.id = raw.can_id & (frame.extended ? CAN_EFF_MASK : CAN_SFF_MASK);
  frame.fd = fd;
  frame.flags = raw.flags & 0xF;
  frame.size = std::min<uint8_t>(raw.len, fd ? 64 : 8);
  std::memcpy(frame.data.data(), raw.data, frame.size);
  return frame;
}

class CanAdapter final : public Adapter {
 public:
  CanAdapter(Options options, std::span<const Signal> signals)
      : options_(std::move(options)), signals_(signals.begin(), signals.end()) {
    for (const Field& field : options_.fields) {
      by_key_[options_.dbc.messages[field.message].key].push_back(field);
      if (field.writable) writable_.emplace(field.signal, field);
      all_.push_back(field.signal);
    }
  }
  ~CanAdapter() override { stop(); }

  Result<> start(GatewayInputs inputs) override {
    stop();
    inputs_ = std::move(inputs);
    pause_ = kFirstPause;
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
    return {};
  }
  void stop() override {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    wake_.ring();
    thread_.join();
    const std::scoped_lock lock(mutex_);
    socket_ = {};
    counters_.state(false, "stopped");
  }
  AdapterFigures figures() const override { return counters_.figures(); }
  Result<> publish(const Sample& /*sample*/) override {
    return fail(Code::kUnsupported, "a CAN bus is not told what others say");
  }

  Result<> write(const Write& write) override {
    const auto found = writable_.find(write.signal);
    if (found == writable_.end()) {
      counters_.refused++;
      return fail(Code::kNotFound, "no signal of {} is writable for this one: the profile does not list it",
                  options_.source());
    }
    const DbcMessage& message = options_.dbc.messages[found->second.message];
    const DbcSignal& field = message.signals[found->second.place];
    const Signal& signal = signals_[write.signal];
    const auto number =
        write.value.index() == static_cast<size_t>(signal.type) ? number_of(field, write.value) : std::nullopt;
    if (!number || (field.min < field.max && !(*number >= field.min && *number <= field.max)))
      return fail(Code::kInvalidArgument, "{}: {} is not one of {}'s values in the DBC file ({} to {})", signal.name,
                  text_of(write.value), field.name, field.min, field.max);
    const std::scoped_lock lock(mutex_);
    CanFrame frame = TRY(frame_to_write(message, field));
    if (!field.set(std::span(frame.data).first(frame.size), *number))
      return fail(Code::kInvalidArgument, "{}: {} bits cannot hold {}", signal.name, field.size, text_of(write.value));
    if (auto sent = send(frame); !sent) return sent;
    last_[{message.key, field.selected_by.value_or(0)}] = frame;
    counters_.sent++;
    return {};
  }

 private:
  // Other signals of the message keep what was last seen: nobody knows them otherwise.
  Result<CanFrame> frame_to_write(const DbcMessage& message, const DbcSignal& field) const {
    const auto last = last_.find({message.key, field.selected_by.value_or(0)});
    if (last != last_.end()) return last->second;
    if (message.signals.size() > 1)
      return fail(Code::kBusy, "{} was not seen yet{}: its {} other signals are unknown, so it is not written",
                  message.name, field.selected_by ? fmt::format(" with selector {}", *field.selected_by) : "",
                  message.signals.size() - 1);
    CanFrame frame;
    frame.extended = message.key >> 31 != 0;
    frame.id = message.key & 0x1FFFFFFF;
    frame.size = static_cast<uint8_t>(message.size);
    frame.fd = message.size > 8;
    return frame;
  }

  Result<> send(const CanFrame& frame) {
    if (!socket_) return fail(Code::kIo, "{}: not open", options_.source());
    if (options_.send) {
      const std::string address = TRY(datagram_address(options_.send->host, options_.send->port, false));
      return send_datagram(socket_.get(), address, candump_text(frame));
    }
    canfd_frame raw{};
    raw.can_id = frame.id | (frame.extended ? CAN_EFF_FLAG : 0);
    raw.len = frame.size;
    raw.flags = frame.flags;
    std::memcpy(raw.data, frame.data.data(), frame.size);
    const size_t size = frame.fd ? CANFD_MTU : CAN_MTU;
    if (::write(socket_.get(), &raw, size) == static_cast<ssize_t>(size)) return {};
    return fail(Code::kIo, "{}: the frame was not sent: {}", options_.interface, std::strerror(errno));
  }

  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      if (auto opened = open(); !opened) {
        gone(opened.error().message);
        continue;
      }
      const bool more = options_.file.empty() ? take_waiting() : take_lines(stop);
      if (!more) wake_.wait(options_.file.empty() ? socket_.get() : -1, options_.file.empty() ? kIdle : options_.poll);
    }
  }

  Result<> open() {
    if (socket_) return {};
    Descriptor opened;
    if (options_.listen) {
      opened = TRY(listen_for_datagrams(options_.listen->host, options_.listen->port));
      counters_.state(true, fmt::format("listens on port {}", bound_port(opened.get())));
    } else if (!options_.file.empty()) {
      opened = Descriptor(::open(options_.file.c_str(), O_RDONLY | O_CLOEXEC));
      if (!opened) return fail(Code::kIo, "{}: {}", options_.file, std::strerror(errno));
      counters_.state(true, "reads " + options_.file);
    } else {
      opened = TRY(open_interface());
      counters_.state(true, "connected to " + options_.interface);
    }
    if (opens_++ > 0) counters_.reconnects++;
    line_.clear();
    {
      const std::scoped_lock lock(mutex_);
      socket_ = std::move(opened);
    }
    inputs_.away(all_, false);
    return {};
  }
  Result<Descriptor> open_interface() const {
    Descriptor opened(::socket(PF_CAN, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, CAN_RAW));
    if (!opened)
      return fail(Code::kIo,
                  "this kernel gives no CAN sockets ({}): load can_raw (modprobe can_raw), or use file or listen",
                  std::strerror(errno));
    sockaddr_can address{};
    address.can_family = AF_CAN;
    address.can_ifindex = static_cast<int>(::if_nametoindex(options_.interface.c_str()));
    if (address.can_ifindex == 0)
      return fail(Code::kIo, "there is no interface {}: ip link set {} up type can bitrate 500000", options_.interface,
                  options_.interface);
    const int on = 1;  // refused by interfaces that know no FD
    (void)::setsockopt(opened.get(), SOL_CAN_RAW, CAN_RAW_FD_FRAMES, &on, sizeof on);
    if (::bind(opened.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      return fail(Code::kIo, "{}: {}", options_.interface, std::strerror(errno));
    return opened;
  }
  void gone(const std::string& why) {
    {
      const std::scoped_lock lock(mutex_);
      socket_ = {};
    }
    counters_.state(false, fmt::format("{}: next try in {} ms", why, pause_.count()));
    inputs_.away(all_, true);
    wake_.wait(-1, pause_);
    pause_ = std::min(pause_ * 2, options_.pause_max);
  }

  // What waits in the socket; true: perhaps more does.
  bool take_waiting() {
    for (int i = 0; i < kFramesAtOnce; i++) {
      if (options_.listen) {
        std::array<char, limits::kCandumpLineBytes> bytes{};
        std::string from;
        const int64_t n = take_datagram(socket_.get(), bytes, from);
        if (n < 0) return false;
        const auto frame = read_candump({bytes.data(), static_cast<size_t>(n)});
        if (frame && (options_.from.empty() || from == options_.from))
          take(*frame, now_ms());
        else
          counters_.refused++;
        continue;
      }
      canfd_frame raw{};
      const auto n = ::read(socket_.get(), &raw, sizeof raw);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
      if (n != CAN_MTU && n != CANFD_MTU)
        return gone(fmt::format("{}: {}", options_.interface, std::strerror(errno))), true;
      take(frame_of(raw, n == CANFD_MTU), now_ms());
    }
    return true;
  }

  // The next piece of the file; true: perhaps there is more. A file that was cut or replaced is read from its beginning.
  bool take_lines(const std::stop_token& stop) {
    std::array<char, 64 << 10> bytes;
    const auto n = ::read(socket_.get(), bytes.data(), bytes.size());
    if (n < 0) return gone(fmt::format("{}: {}", options_.file, std::strerror(errno))), true;
    if (n == 0) {
      struct stat here{}, there{};
      if (::fstat(socket_.get(), &here) != 0 || ::stat(options_.file.c_str(), &there) != 0) {
        gone(fmt::format("{}: {}", options_.file, std::strerror(errno)));
      } else if (here.st_ino != there.st_ino || here.st_dev != there.st_dev ||
                 there.st_size < ::lseek(socket_.get(), 0, SEEK_CUR)) {
        const std::scoped_lock lock(mutex_);
        socket_ = {};
        return true;
      }
      return false;
    }
    for (const char c : std::string_view(bytes.data(), static_cast<size_t>(n))) {
      if (c != '\n') {
        if (line_.size() <= limits::kCandumpLineBytes) line_ += c;
        continue;
      }
      if (stop.stop_requested()) return false;
      const auto frame = line_.size() <= limits::kCandumpLineBytes ? read_candump(line_) : std::nullopt;
      const int64_t now = now_ms();
      if (frame)
        take(*frame, options_.log_time ? frame->time_ms.value_or(now) : now);
      else if (!line_.empty())
        counters_.refused++;
      line_.clear();
    }
    return true;
  }

  void take(const CanFrame& frame, int64_t time_ms) {
    pause_ = kFirstPause;
    const auto found = by_key_.find(frame.key());
    if (frame.error) counters_.refused++;
    if (frame.error || frame.remote || found == by_key_.end()) return;
    const std::span data = std::span(frame.data).first(frame.size);
    const DbcMessage& message = options_.dbc.messages[found->second.front().message];
    const DbcSignal* selector = message.selector();
    std::optional<uint64_t> selected;
    if (selector != nullptr && selector->fits(frame.size)) selected = selector->raw(data);
    for (const Field& field : found->second) {
      const DbcSignal& of = message.signals[field.place];
      if (of.selected_by && selected != uint64_t{*of.selected_by}) continue;
      if (field.writable) {
        const std::scoped_lock lock(mutex_);
        last_[{message.key, of.selected_by.value_or(0)}] = frame;
        last_[{message.key, of.selected_by.value_or(0)}].size =
            std::max(frame.size, static_cast<uint8_t>(message.size));
      }
      const Signal& signal = signals_[field.signal];
      const auto value = of.fits(frame.size) ? decode(of, signal.type, data) : std::nullopt;
      Sample sample = make_sample(signal, field.signal, value, time_ms, now_ms());
      const auto* number = std::get_if<double>(&sample.value);
      if (sample.quality == Quality::kGood && number != nullptr && of.min < of.max &&
          (*number < of.min || *number > of.max))
        sample.quality = Quality::kOutOfRange;
      (sample.quality == Quality::kBad ? counters_.refused : counters_.received)++;
      inputs_.sample(sample);
    }
  }

  static constexpr milliseconds kIdle{60'000};
  const Options options_;
  const std::vector<Signal> signals_;
  std::unordered_map<uint32_t, std::vector<Field>> by_key_;
  std::map<SignalId, Field> writable_;
  std::vector<SignalId> all_;
  GatewayInputs inputs_;
  Counters counters_;
  Wake wake_;
  std::mutex mutex_;  // of what write() uses: only the reading thread changes the descriptor
  Descriptor socket_;
  std::map<std::pair<uint32_t, uint32_t>, CanFrame> last_;  // by message and selector
  std::string line_;                                        // of the file, not whole yet
  milliseconds pause_ = kFirstPause;
  uint64_t opens_ = 0;
  std::jthread thread_;
};

Result<std::unique_ptr<Adapter>> make(const ConfigTable& table, std::span<const Signal> signals) {
  Options options;
  if (auto read = read_source(table, options); !read) return std::unexpected(read.error());
  const std::string dbc_file = TRY(table.needed_text("dbc"));
  auto text = read_file(dbc_file, limits::kDbcBytes);
  if (!text) return table.wrong("dbc", text.error().message);
  auto dbc = Dbc::parse(*text, dbc_file);
  if (!dbc) return table.wrong("dbc", dbc.error().message);
  options.dbc = std::move(*dbc);
  const SignalNames names(signals);
  const std::vector<ConfigTable> entries = TRY(table.tables("field"));
  for (const ConfigTable& entry : entries) options.fields.push_back(TRY(read_field(entry, names, signals, options)));
  return std::make_unique<CanAdapter>(std::move(options), signals);
}

// A DBC file and, as lines of it that a DBC reader passes over, frames.
void parse(std::string_view bytes) {
  const auto dbc = Dbc::parse(bytes, "fuzz.dbc");
  for (size_t at = 0; at < bytes.size(); at = std::min(bytes.find('\n', at), bytes.size() - 1) + 1) {
    const auto frame = read_candump(bytes.substr(at, std::min(bytes.find('\n', at), bytes.size()) - at));
    if (!frame || !dbc) continue;
    for (const DbcMessage& message : dbc->messages)
      for (const DbcSignal& signal : message.signals) {
        if (!signal.fits(frame->size)) continue;
        for (const SignalType type : {SignalType::kBool, SignalType::kNumber, SignalType::kText})
          (void)decode(signal, type, std::span(frame->data).first(frame->size));
        CanFrame copy = *frame;
        (void)signal.set(std::span(copy.data).first(copy.size),
                         signal.value(std::span(frame->data).first(frame->size)));
      }
    (void)read_candump(candump_text(*frame));
  }
}

}  // namespace

AdapterKind can_kind() {
  return {"can", "CAN buses: SocketCAN, datagrams or a log of candump, decoded by a DBC file", make, parse};
}

}  // namespace hearth::gateway
