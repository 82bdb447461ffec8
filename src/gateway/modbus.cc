// Modbus TCP and RTU (libmodbus): registers of a PLC, a meter, a drive. Read in blocks, written only where the profile lists it.
#include <modbus/modbus.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <condition_variable>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include "gateway/adapters.h"
#include "gateway/profile.h"
#include "gateway/sample.h"

namespace hearth::gateway {
namespace {

enum class Table : uint8_t { kHolding, kInput, kCoil, kDiscrete };
constexpr std::array<std::string_view, 4> kTables = {"holding", "input", "coil", "discrete"};
enum class Form : uint8_t { kU16, kI16, kU32, kI32, kF32, kBit };
constexpr std::array<std::string_view, 6> kForms = {"u16", "i16", "u32", "i32", "f32", "bit"};
constexpr std::chrono::milliseconds kFirstPause{250};
constexpr std::array<int, 4> kBlockMost = {MODBUS_MAX_READ_REGISTERS, MODBUS_MAX_READ_REGISTERS, MODBUS_MAX_READ_BITS,
                                           MODBUS_MAX_READ_BITS};

// One signal in a device's memory.
struct Register {
  SignalId signal = 0;
  int unit = 1, address = 0;
  Table table = Table::kHolding;
  Form form = Form::kU16;
  bool low_word_first = false, writable = false, by_multiple = false;  // function 16 (15) instead of 6 (5)
  int bit = 0;                                                         // of a register whose form is kBit
  double scale = 1, offset = 0;
  [[nodiscard]] int size() const { return form == Form::kU32 || form == Form::kI32 || form == Form::kF32 ? 2 : 1; }
};

// Neighbours of one table of one unit, read with one request.
struct Block {
  int unit, address, size;
  Table table;
  size_t first, n;  // of the registers, which are in the order of their blocks
};

struct ModbusOptions {
  std::string host, device;
  int port = 502, baud = 19200, data_bits = 8, stop_bits = 1;
  char parity = 'E';
  std::chrono::milliseconds poll{1000}, timeout{500}, pause_max{3'000};
  [[nodiscard]] std::string peer() const { return device.empty() ? fmt::format("{}:{}", host, port) : device; }
};

// What the words at a register's place mean; empty: no number (NaN, infinity).
std::optional<Value> decode(const Register& reg, SignalType type, std::span<const uint16_t> words) {
  double raw = 0;
  const uint32_t two =
      reg.size() == 2 ? (reg.low_word_first ? uint32_t{words[1]} << 16 | words[0] : uint32_t{words[0]} << 16 | words[1])
                      : 0;
  switch (reg.form) {
    case Form::kU16:
      raw = words[0];
      break;
    case Form::kI16:
      raw = static_cast<int16_t>(words[0]);
      break;
    case Form::kU32:
      raw = two;
      break;
    case Form::kI32:
      raw = static_cast<int32_t>(two);
      break;
    case Form::kF32:
      raw = std::bit_cast<float>(two);
      break;
    case Form::kBit:
      raw = words[0] >> reg.bit & 1;
      break;
  }
  if (type == SignalType::kBool) return Value(raw != 0);
  raw = raw * reg.scale + reg.offset;
  return std::isfinite(raw) ? std::optional(Value(raw)) : std::nullopt;
}

// The words for a value; empty if the register cannot hold it.
std::optional<std::vector<uint16_t>> encode(const Register& reg, const Value& value) {
  double raw = 0;
  if (const auto* flag = std::get_if<bool>(&value))
    raw = *flag ? 1 : 0;
  else if (const auto* number = std::get_if<double>(&value))
    raw = (*number - reg.offset) / reg.scale;
  else
    return std::nullopt;
  uint32_t bits = 0;
  if (reg.form == Form::kF32) {
    if (!(std::abs(raw) <= static_cast<double>(std::numeric_limits<float>::max()))) return std::nullopt;
    bits = std::bit_cast<uint32_t>(static_cast<float>(raw));
  } else {
    raw = std::round(raw);
    const bool is_signed = reg.form == Form::kI16 || reg.form == Form::kI32;
    const double most = reg.form == Form::kBit ? 1 : std::exp2(16 * reg.size() - (is_signed ? 1 : 0)) - 1;
    if (!(raw <= most && raw >= (is_signed ? -most - 1 : 0))) return std::nullopt;
    bits = static_cast<uint32_t>(static_cast<int64_t>(raw));
  }
  const auto low = static_cast<uint16_t>(bits), high = static_cast<uint16_t>(bits >> 16);
  if (reg.size() == 1) return std::vector{low};
  return reg.low_word_first ? std::vector{low, high} : std::vector{high, low};
}

template <size_t n>
Result<size_t> one_of(const ConfigTable& table, std::string_view key, const std::array<std::string_view, n>& names) {
  const std::string text = TRY(table.text(key, names[0]));
  const auto found = std::ranges::find(names, text);
  if (found != names.end()) return found - names.begin();
  return table.wrong(key, fmt::format("is \"{}\", has to be one of {}", text, fmt::join(names, ", ")));
}

Result<Register> read_register(const ConfigTable& table, const SignalNames& names, std::span<const Signal> signals,
                               int unit) {
  Register reg;
  reg.signal = TRY(names.named(table, "signal"));
  const Signal& signal = signals[reg.signal];
  if (signal.type == SignalType::kText)
    return table.wrong("signal", fmt::format("{} is a text; registers hold numbers and bits", signal.name));
  reg.table = static_cast<Table>(TRY(one_of(table, "table", kTables)));
  const bool bits = reg.table == Table::kCoil || reg.table == Table::kDiscrete;
  reg.form = bits ? Form::kBit : static_cast<Form>(TRY(one_of(table, "form", kForms)));
  reg.bit = static_cast<int>(TRY(table.integer("bit", 0, 0, bits ? 0 : 15)));
  reg.unit = static_cast<int>(TRY(table.integer("unit", unit, 0, 247)));
  if (!table.has("address"))
    return table.wrong("address", "is missing: the number from 0, as it goes over the wire (40001 is holding 0)");
  reg.address = static_cast<int>(TRY(table.integer("address", 0, 0, 65536 - reg.size())));
  reg.low_word_first = TRY(table.text("word_order", "high")) == "low";
  reg.scale = TRY(table.number("scale", 1, -1e12, 1e12));
  if (reg.scale == 0) return table.wrong("scale", "is 0: leave it out for 1");
  reg.offset = TRY(table.number("offset", 0, -1e12, 1e12));
  reg.writable = TRY(table.flag("writable", false));
  const auto function = TRY(table.integer("function", bits ? 5 : reg.size() == 2 ? 16 : 6, 5, 16));
  reg.by_multiple = function >= 15;
  if (bits ? function != 5 && function != 15 : function != 16 && (function != 6 || reg.size() == 2))
    return table.wrong(
        "function", fmt::format("is {}: coils are written by 5 or 15, one register by 6 or 16, two by 16", function));
  if (reg.writable && (reg.table == Table::kInput || reg.table == Table::kDiscrete))
    return table.wrong("writable", "inputs cannot be written: table has to be holding or coil");
  if (reg.writable && !bits && reg.form == Form::kBit)
    return table.wrong("writable", "one bit of a register cannot be written: use a coil, or the whole register");
  if (reg.writable && !signal.write)
    return table.wrong("writable",
                       fmt::format("{} has no limits: give it [signal.write] with min, max and action", signal.name));
  if (auto finished = table.finish(); !finished) return std::unexpected(finished.error());
  return reg;
}

// In the order of their blocks. Up to `gap` unwanted registers are read to save a request.
std::vector<Block> make_blocks(std::vector<Register>& registers, int gap) {
  std::ranges::sort(registers, {}, [](const Register& r) { return std::tuple(r.unit, r.table, r.address); });
  std::vector<Block> blocks;
  for (size_t i = 0; i < registers.size(); i++) {
    const Register& reg = registers[i];
    if (!blocks.empty()) {
      Block& last = blocks.back();
      const int size = std::max(last.size, reg.address + reg.size() - last.address);
      if (last.unit == reg.unit && last.table == reg.table && reg.address <= last.address + last.size + gap &&
          size <= kBlockMost[static_cast<size_t>(reg.table)]) {
        last.size = size;
        last.n++;
        continue;
      }
    }
    blocks.push_back({reg.unit, reg.address, reg.size(), reg.table, i, 1});
  }
  return blocks;
}

// The device answered that it will not; the connection is fine.
bool is_exception(int error) { return error > MODBUS_ENOBASE && error < EMBBADCRC; }

class ModbusAdapter final : public Adapter {
 public:
  ModbusAdapter(ModbusOptions options, std::vector<Register> registers, int gap, std::span<const Signal> signals)
      : options_(std::move(options)),
        registers_(std::move(registers)),
        blocks_(make_blocks(registers_, gap)),
        signals_(signals.begin(), signals.end()) {
    for (const Register& reg : registers_) {
      units_[reg.unit].signals.push_back(reg.signal);
      if (reg.writable) writable_.emplace(reg.signal, reg);
    }
  }
  ~ModbusAdapter() override { stop(); }

  Result<> start(GatewayInputs inputs) override {
    stop();
    inputs_ = std::move(inputs);
    for (auto& [number, unit] : units_) unit.away = false, unit.pause = kFirstPause, unit.next_try = {};
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
    return {};
  }
  void stop() override {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
    const std::scoped_lock lock(mutex_);
    disconnect();
    counters_.state(false, "stopped");
  }
  AdapterFigures figures() const override { return counters_.figures(); }
  Result<> publish(const Sample& /*sample*/) override {
    return fail(Code::kUnsupported, "Modbus devices are not told what others say");
  }

  Result<> write(const Write& write) override {
    const auto found = writable_.find(write.signal);
    if (found == writable_.end()) {
      counters_.refused++;
      return fail(Code::kNotFound, "no register of {} is writable for this signal: the profile does not list it",
                  options_.peer());
    }
    const Register& reg = found->second;
    const Signal& signal = signals_[write.signal];
    const auto words =
        write.value.index() == static_cast<size_t>(signal.type) ? encode(reg, write.value) : std::nullopt;
    if (!words)
      return fail(Code::kInvalidArgument, "{}: the register cannot hold {}", signal.name, text_of(write.value));
    writers_++;
    const std::unique_lock lock(mutex_);
    writers_--;
    if (!open()) return fail(Code::kIo, "{}: {}", options_.peer(), why_);
    if (!send(reg, *words)) return failed("write", reg.unit);
    counters_.sent++;
    std::array<uint16_t, 2> back{};
    if (!request({reg.unit, reg.address, reg.size(), reg.table, 0, 1}, back)) return failed("read back", reg.unit);
    const Sample sample = take(reg, back);
    if (!std::equal(words->begin(), words->end(), back.begin()))
      return fail(Code::kCorrupt, "{}: wrote {}, read back {}", signal.name, text_of(write.value),
                  text_of(sample.value));
    return {};
  }

 private:
  struct Unit {
    std::vector<SignalId> signals;
    bool away = false;
    std::chrono::milliseconds pause = kFirstPause;
    std::chrono::steady_clock::time_point next_try{};
  };

  void run(const std::stop_token& stop) {
    auto due = std::chrono::steady_clock::now();
    while (!stop.stop_requested()) {
      for (const Block& block : blocks_) {
        if (stop.stop_requested()) return;
        poll(block);
      }
      // A poll that took too long is not made up for.
      due = std::max(due + options_.poll, std::chrono::steady_clock::now());
      std::unique_lock lock(sleep_mutex_);
      sleep_.wait_until(lock, stop, due, [] { return false; });
    }
  }

  // Whatever goes wrong here, the next round tries again (thingsboard-gateway #2132): nothing ends the loop but stop().
  void poll(const Block& block) {
    Unit& unit = units_.at(block.unit);
    if (std::chrono::steady_clock::now() < unit.next_try) return;
    while (writers_ > 0) std::this_thread::yield();  // who writes does not wait for a whole round
    const std::scoped_lock lock(mutex_);
    std::array<uint16_t, MODBUS_MAX_READ_BITS> words{};
    const bool open_before = context_ != nullptr;
    if (!open() || !request(block, words)) {
      const bool refused = context_ != nullptr && is_exception(error_);
      if (!refused) return gone(unit, !open_before);
      for (size_t i = 0; i < block.n; i++) bad(registers_[block.first + i]);
      counters_.state(true, fmt::format("{}: unit {} refuses {} {}: {}", options_.peer(), block.unit,
                                        kTables[static_cast<size_t>(block.table)], block.address, why_));
    } else {
      for (size_t i = 0; i < block.n; i++) {
        const Register& reg = registers_[block.first + i];
        take(reg, std::span(words).subspan(reg.address - block.address));
      }
      if (!open_before || unit.away) counters_.state(true, "connected to " + options_.peer());
    }
    unit.pause = kFirstPause;
    if (std::exchange(unit.away, false)) inputs_.away(unit.signals, false);
  }

  void gone(Unit& unit, bool was_retry) {
    disconnect();
    if (was_retry || unit.away) unit.pause = std::min(unit.pause * 2, options_.pause_max);
    unit.next_try = std::chrono::steady_clock::now() + unit.pause;
    counters_.state(false, fmt::format("{}: {}: next try in {} ms", options_.peer(), why_, unit.pause.count()));
    if (!std::exchange(unit.away, true)) inputs_.away(unit.signals, true);
  }

  bool open() {
    if (context_ != nullptr) return true;
    context_ = options_.device.empty() ? modbus_new_tcp_pi(options_.host.c_str(), std::to_string(options_.port).c_str())
                                       : modbus_new_rtu(options_.device.c_str(), options_.baud, options_.parity,
                                                        options_.data_bits, options_.stop_bits);
    if (context_ == nullptr) {
      why_ = modbus_strerror(errno);
      return false;
    }
    const auto ms = static_cast<uint32_t>(options_.timeout.count());
    modbus_set_response_timeout(context_, ms / 1000, ms % 1000 * 1000);
    if (modbus_connect(context_) != 0) {
      why_ = errno == EINPROGRESS || errno == 0 ? "no answer" : modbus_strerror(errno);
      disconnect();
      return false;
    }
    if (connects_++ > 0) counters_.reconnects++;
    return true;
  }
  void disconnect() {
    if (context_ == nullptr) return;
    modbus_close(context_);
    modbus_free(std::exchange(context_, nullptr));
  }

  // Reads a block; bits come one to a word.
  bool request(const Block& block, std::span<uint16_t> words) {
    modbus_set_slave(context_, block.unit);
    int n = -1;
    if (block.table == Table::kHolding) n = modbus_read_registers(context_, block.address, block.size, words.data());
    if (block.table == Table::kInput)
      n = modbus_read_input_registers(context_, block.address, block.size, words.data());
    if (block.table == Table::kCoil || block.table == Table::kDiscrete) {
      std::array<uint8_t, MODBUS_MAX_READ_BITS> bits{};
      n = block.table == Table::kCoil ? modbus_read_bits(context_, block.address, block.size, bits.data())
                                      : modbus_read_input_bits(context_, block.address, block.size, bits.data());
      std::copy_n(bits.begin(), block.size, words.begin());
    }
    return done(n, block.size);
  }
  // The only place that writes.
  bool send(const Register& reg, std::span<const uint16_t> words) {
    modbus_set_slave(context_, reg.unit);
    int n = 0;
    if (reg.table == Table::kCoil) {
      const auto bit = static_cast<uint8_t>(words[0]);
      n = reg.by_multiple ? modbus_write_bits(context_, reg.address, 1, &bit)
                          : modbus_write_bit(context_, reg.address, bit);
    } else {
      n = reg.by_multiple ? modbus_write_registers(context_, reg.address, reg.size(), words.data())
                          : modbus_write_register(context_, reg.address, words[0]);
    }
    return done(n, reg.size());
  }
  bool done(int n, int wanted) {
    error_ = n < 0 ? errno : EMBBADDATA;
    if (n != wanted) why_ = modbus_strerror(error_);
    return n == wanted;
  }
  std::unexpected<Error> failed(std::string_view what, int unit) {
    const bool refused = is_exception(error_);
    if (!refused) disconnect();
    return fail(refused ? Code::kInvalidArgument : Code::kIo, "{}: unit {}: {}: {}", options_.peer(), unit, what, why_);
  }

  Sample take(const Register& reg, std::span<const uint16_t> words) {
    const Signal& signal = signals_[reg.signal];
    const int64_t now = now_ms();
    const Sample sample = make_sample(signal, reg.signal, decode(reg, signal.type, words), now, now);
    (sample.quality == Quality::kBad ? counters_.refused : counters_.received)++;
    inputs_.sample(sample);
    return sample;
  }
  void bad(const Register& reg) {
    counters_.refused++;
    const int64_t now = now_ms();
    inputs_.sample(make_sample(signals_[reg.signal], reg.signal, std::nullopt, now, now));
  }

  const ModbusOptions options_;
  std::vector<Register> registers_;  // of which `blocks_` are runs
  const std::vector<Block> blocks_;
  const std::vector<Signal> signals_;
  std::map<SignalId, Register> writable_;
  std::map<int, Unit> units_;  // of the polling thread
  GatewayInputs inputs_;
  Counters counters_;
  std::mutex mutex_;  // of the connection: one request at a time
  std::atomic<int> writers_ = 0;
  modbus_t* context_ = nullptr;
  std::string why_;  // the last request failed
  int error_ = 0;
  uint64_t connects_ = 0;
  std::mutex sleep_mutex_;
  std::condition_variable_any sleep_;
  std::jthread thread_;
};

Result<std::unique_ptr<Adapter>> make(const ConfigTable& table, std::span<const Signal> signals) {
  ModbusOptions options;
  options.host = TRY(table.text("host", ""));
  options.device = TRY(table.text("device", ""));
  if (options.host.empty() == options.device.empty())
    return table.wrong("host", "give either host (TCP) or device (RTU, as in \"/dev/ttyUSB0\")");
  options.port = static_cast<int>(TRY(table.integer("port", 502, 1, 65535)));
  options.baud = static_cast<int>(TRY(table.integer("baud", 19200, 300, 4'000'000)));
  options.data_bits = static_cast<int>(TRY(table.integer("data_bits", 8, 5, 8)));
  options.stop_bits = static_cast<int>(TRY(table.integer("stop_bits", 1, 1, 2)));
  const std::string parity = TRY(table.text("parity", "E"));
  if (parity != "N" && parity != "E" && parity != "O") return table.wrong("parity", "has to be \"N\", \"E\" or \"O\"");
  options.parity = parity[0];
  options.poll = TRY(table.duration("poll", options.poll));
  options.timeout = TRY(table.duration("timeout", options.timeout));
  if (options.poll.count() < 10) return table.wrong("poll", "has to be 10ms or more");
  if (options.timeout.count() < 10 || options.timeout.count() > 60'000)
    return table.wrong("timeout", "has to be from 10ms to 1m");
  options.pause_max = TRY(table.duration("pause_max", options.pause_max));
  const auto unit = static_cast<int>(TRY(table.integer("unit", 1, 0, 247)));
  const auto gap = static_cast<int>(TRY(table.integer("gap", 8, 0, 100)));
  std::vector<Register> registers;
  const SignalNames names(signals);
  const std::vector<ConfigTable> entries = TRY(table.tables("register"));
  for (const ConfigTable& entry : entries) registers.push_back(TRY(read_register(entry, names, signals, unit)));
  return std::make_unique<ModbusAdapter>(std::move(options), std::move(registers), gap, signals);
}

void parse(std::string_view bytes) {
  const Signal number{}, flag{.name = {}, .label = {}, .type = SignalType::kBool, .unit = {}, .write = {}};
  for (size_t i = 0; i + 4 <= bytes.size(); i += 2) {
    const auto word = [&](size_t at) {
      return static_cast<uint16_t>(static_cast<unsigned char>(bytes[at]) << 8 |
                                   static_cast<unsigned char>(bytes[at + 1]));
    };
    const std::array<uint16_t, 2> words = {word(i), word(i + 2)};
    for (size_t form = 0; form < kForms.size(); form++) {
      Register reg;
      reg.form = static_cast<Form>(form);
      reg.low_word_first = i % 4 == 0;
      const auto value = decode(reg, SignalType::kNumber, words);
      if (value) (void)encode(reg, *value);
      (void)make_sample(number, 0, value, 0, 0);
      (void)make_sample(flag, 0, decode(reg, SignalType::kBool, words), 0, 0);
    }
  }
}

}  // namespace

AdapterKind modbus_kind() { return {"modbus", "PLCs, meters and drives over Modbus TCP or RTU", make, parse}; }

}  // namespace hearth::gateway
