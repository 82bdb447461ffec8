#include "gateway/dbc.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "base/limits.h"

namespace hearth::gateway {
namespace {

constexpr uint32_t kNoMessage = 0xC0000000;  // VECTOR__INDEPENDENT_SIG_MSG: where editors keep signals of no message
constexpr uint32_t kExtended = 1u << 31;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

template <typename Number>
std::optional<Number> number_of(std::string_view text, int base = 10) {
  Number value{};
  std::from_chars_result read{};
  if (text.starts_with('+')) text.remove_prefix(1);
  if constexpr (std::is_floating_point_v<Number>)
    read = std::from_chars(text.data(), text.data() + text.size(), value);
  else
    read = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || read.ec != std::errc() || read.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

// Where in a frame the bits of a signal are, from the lowest to the highest.
int next_bit(bool intel, int at) { return intel ? at + 1 : at % 8 == 7 ? at - 15 : at + 1; }

class Reader {
 public:
  Reader(std::string_view text, std::string_view file_name) : text_(text), file_(file_name) {}

  Result<Dbc> read() {
    if (text_.size() > limits::kDbcBytes)
      return fail(Code::kLimit, "{}: {} bytes, at most {}: take out messages that nobody reads", file_, text_.size(),
                  limits::kDbcBytes);
    while (skip_blanks(), at_ < text_.size()) {
      const std::string_view keyword = word();
      Result<> done;
      if (keyword == "BO_" && !line_ends())
        done = message();
      else if (keyword == "SG_" && !line_ends())
        done = signal();
      else if (keyword == "VAL_" && !line_ends())
        done = texts();
      else if (keyword == "SIG_VALTYPE_" && !line_ends())
        done = form();
      else
        skip_statement();  // comments, attributes, nodes, the list of keywords
      if (!done) return std::unexpected(done.error());
    }
    return std::move(dbc_);
  }

 private:
  std::unexpected<Error> wrong(std::string_view what) const {
    const auto line = 1 + std::ranges::count(text_.substr(0, at_), '\n');
    return fail(Code::kMalformed, "{}:{}: {}", file_, line, what);
  }
  std::unexpected<Error> too_many(std::string_view what, uint64_t most) const {
    return fail(Code::kLimit, "{}:{}: more than {} {}: take out messages that nobody reads", file_,
                1 + std::ranges::count(text_.substr(0, at_), '\n'), most, what);
  }
  void skip_blanks() {
    while (at_ < text_.size() && is_blank(text_[at_])) at_++;
  }
  bool line_ends() const {
    size_t at = at_;
    while (at < text_.size() && (text_[at] == ' ' || text_[at] == '\t' || text_[at] == '\r')) at++;
    return at == text_.size() || text_[at] == '\n';
  }
  // To the end of the line; a quoted text may go over several.
  void skip_statement() {
    bool quoted = false;
    for (; at_ < text_.size() && (quoted || text_[at_] != '\n'); at_++) {
      if (text_[at_] == '"') quoted = !quoted;
      if (quoted && text_[at_] == '\\' && at_ + 1 < text_.size()) at_++;
    }
  }
  // Letters, digits and _; empty if something else is next.
  std::string_view word() {
    skip_blanks();
    const size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) at_++;
    return text_.substr(begin, at_ - begin);
  }
  bool take(char c) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    at_++;
    return true;
  }
  template <typename Number>
  std::optional<Number> number() {
    skip_blanks();
    const size_t begin = at_;
    while (at_ < text_.size() && (is_word(text_[at_]) || text_[at_] == '.' || text_[at_] == '-' || text_[at_] == '+'))
      at_++;
    const auto value = number_of<Number>(text_.substr(begin, at_ - begin));
    if constexpr (std::is_floating_point_v<Number>)
      if (value && !std::isfinite(*value)) return std::nullopt;
    return value;
  }
  std::optional<std::string> quoted() {
    if (!take('"')) return std::nullopt;
    std::string text;
    for (; at_ < text_.size() && text_[at_] != '"'; at_++) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) at_++;
      text += text_[at_];
      if (text.size() > limits::kDbcTextBytes) return std::nullopt;
    }
    return at_++ < text_.size() ? std::optional(text) : std::nullopt;
  }

  // BO_ 500 Engine: 8 Gateway
  Result<> message() {
    const auto key = number<uint32_t>();
    const std::string_view name = word();
    const bool colon = take(':');
    const auto size = number<int>();
    if (!key || name.empty() || !colon || !size)
      return wrong("a message has to be written as BO_ NUMBER NAME: BYTES SENDER");
    if (name.size() > limits::kDbcNameBytes)
      return wrong(fmt::format("a name of {} bytes, at most {}", name.size(), limits::kDbcNameBytes));
    if (*size < 0 || *size > 64) return wrong(fmt::format("{} has {} bytes, has to have 0 to 64", name, *size));
    if (*key != kNoMessage && (*key & ~kExtended) >= ((*key & kExtended) != 0 ? 1u << 29 : 1u << 11))
      return wrong(fmt::format("{}: {} is no identifier: 0 to 2047, or 2147483648 and more for 29 bits", name, *key));
    if (dbc_.messages.size() >= limits::kDbcMessages) return too_many("messages", limits::kDbcMessages);
    if (!by_key_.emplace(*key, dbc_.messages.size()).second)
      return wrong(fmt::format("message {} is there twice: take one of them out", *key));
    dbc_.messages.push_back({*key, std::string(name), *size, {}});
    skip_statement();
    return {};
  }

  // SG_ Speed m1 : 8|16@1+ (0.1,-40) [0|250] "km/h" Dashboard
  Result<> signal() {
    if (dbc_.messages.empty()) return wrong("SG_ stands before the first BO_: a signal belongs to a message");
    DbcSignal signal;
    signal.name = word();
    if (signal.name.empty() || signal.name.size() > limits::kDbcNameBytes)
      return wrong(fmt::format("a signal needs a name of 1 to {} bytes", limits::kDbcNameBytes));
    if (!take(':')) {
      if (!selection(word(), signal) || !take(':'))
        return wrong(fmt::format("{}: before the colon may stand M, or m and a number", signal.name));
    }
    const auto start = number<int>();
    const bool bar = take('|');
    const auto size = number<int>();
    const bool at = take('@');
    const bool motorola = take('0');
    const bool order = motorola || take('1');
    signal.is_signed = take('-');
    if (!start || !bar || !size || !at || !order || (!signal.is_signed && !take('+')))
      return wrong(
          fmt::format("{}: its place has to be written as START|BITS@1+ (1 Intel, 0 Motorola; + or -)", signal.name));
    signal.intel = !motorola;
    if (auto read = scaling(signal); !read) return read;
    signal.start = *start;
    signal.size = *size;
    DbcMessage& message = dbc_.messages.back();
    if (message.key == kNoMessage) return {};
    if (*size < 1 || *size > 64 || *start < 0 || *start > 511 || !signal.fits(message.size))
      return wrong(
          fmt::format("{}: bits {}|{} are not in the {} bytes of {}: correct the place or the size of the message",
                      signal.name, *start, *size, message.size, message.name));
    if (message.find(signal.name) != nullptr)
      return wrong(fmt::format("{} is there twice in {}: take one of them out", signal.name, message.name));
    if (signal.selects && message.selector() != nullptr)
      return wrong(fmt::format("{} has two signals M: a message is selected by one", message.name));
    if (message.signals.size() >= limits::kDbcSignals) return too_many("signals in a message", limits::kDbcSignals);
    message.signals.push_back(std::move(signal));
    return {};
  }
  static bool selection(std::string_view text, DbcSignal& signal) {
    if (text == "M") {
      signal.selects = true;
      return true;
    }
    if (text.ends_with('M')) {
      signal.extended_selection = true;
      text.remove_suffix(1);
    }
    if (!text.starts_with('m')) return false;
    signal.selected_by = number_of<uint32_t>(text.substr(1));
    return signal.selected_by.has_value();
  }
  Result<> scaling(DbcSignal& signal) {
    const bool open = take('(');
    const auto factor = number<double>();
    const bool comma = take(',');
    const auto offset = number<double>();
    const bool range = take(')') && take('[');
    const auto min = number<double>();
    const bool bar = take('|');
    const auto max = number<double>();
    if (!open || !factor || !comma || !offset || !range || !min || !bar || !max || !take(']'))
      return wrong(fmt::format("{}: after its place has to stand (FACTOR,OFFSET) [MIN|MAX]", signal.name));
    if (*factor == 0) return wrong(fmt::format("{}: the factor is 0: it has to be another number", signal.name));
    signal.factor = *factor, signal.offset = *offset, signal.min = *min, signal.max = *max;
    if (!quoted()) return wrong(fmt::format("{}: after its range has to stand its unit in quotes", signal.name));
    skip_statement();
    return {};
  }

  // The signal that "NUMBER NAME" speak of; null: of none that there is.
  DbcSignal* named() {
    const auto key = number<uint32_t>();
    const std::string_view name = word();
    const auto found = key ? by_key_.find(*key) : by_key_.end();
    if (found == by_key_.end()) return nullptr;
    std::vector<DbcSignal>& signals = dbc_.messages[found->second].signals;
    const auto signal = std::ranges::find(signals, name, &DbcSignal::name);
    return signal == signals.end() ? nullptr : &*signal;
  }
  // VAL_ 500 Gear 0 "Park" 1 "Drive" ; of a signal, or (without a number) of an environment variable, which is left out
  Result<> texts() {
    DbcSignal* signal = named();
    if (signal == nullptr) return skip_statement(), Result<>();
    std::vector<std::pair<int64_t, std::string>> all;
    while (!take(';')) {
      const auto number = this->number<int64_t>();
      auto text = number ? quoted() : std::nullopt;
      if (!text)
        return wrong(fmt::format("{}: its texts have to be written as NUMBER \"TEXT\" (of at most {} bytes) ... ;",
                                 signal->name, limits::kDbcTextBytes));
      if (++n_texts_ > limits::kDbcTexts) return too_many("texts of values", limits::kDbcTexts);
      all.emplace_back(*number, std::move(*text));
    }
    signal->texts = std::move(all);
    return {};
  }
  // SIG_VALTYPE_ 500 Level : 1;
  Result<> form() {
    DbcSignal* signal = named();
    if (signal == nullptr) return skip_statement(), Result<>();
    (void)take(':');
    const auto form = number<int>();
    if (!form || *form < 0 || *form > 2 || (*form == 1 && signal->size != 32) || (*form == 2 && signal->size != 64))
      return wrong(fmt::format("{}: has to be 0, or 1 (float) for 32 bits, or 2 (double) for 64", signal->name));
    signal->form = static_cast<DbcSignal::Form>(*form);
    skip_statement();
    return {};
  }

  std::string_view text_, file_;
  size_t at_ = 0;
  Dbc dbc_;
  std::unordered_map<uint32_t, size_t> by_key_;
  uint64_t n_texts_ = 0;
};

// The lowest bit of a Motorola signal: its first is the highest, and bits go down within a byte and on to the next byte.
int lowest_bit(const DbcSignal& signal) {
  if (signal.intel) return signal.start;
  const int from_left = signal.start / 8 * 8 + (7 - signal.start % 8) + signal.size - 1;
  return from_left / 8 * 8 + (7 - from_left % 8);
}

}  // namespace

bool DbcSignal::fits(size_t bytes) const {
  const int n_bits = static_cast<int>(std::min<size_t>(bytes, 64)) * 8;
  if (intel) return start + size <= n_bits;
  return start / 8 * 8 + (7 - start % 8) + size <= n_bits;
}

uint64_t DbcSignal::raw(std::span<const uint8_t> data) const {
  uint64_t bits = 0;
  int at = lowest_bit(*this);
  for (int i = 0; i < size; i++, at = next_bit(intel, at)) bits |= uint64_t{data[at / 8]} >> at % 8 << 63 >> (63 - i);
  return bits;
}

double DbcSignal::value(std::span<const uint8_t> data) const {
  const uint64_t bits = raw(data);
  double number = 0;
  if (form == Form::kFloat)
    number = std::bit_cast<float>(static_cast<uint32_t>(bits));
  else if (form == Form::kDouble)
    number = std::bit_cast<double>(bits);
  else if (is_signed)
    number = static_cast<double>(static_cast<int64_t>(bits << (64 - size)) >> (64 - size));
  else
    number = static_cast<double>(bits);
  return number * factor + offset;
}

bool DbcSignal::set(std::span<uint8_t> data, double value) const {
  const double number = form == Form::kInteger ? std::round((value - offset) / factor) : (value - offset) / factor;
  uint64_t bits = 0;
  if (!std::isfinite(number)) return false;
  if (form == Form::kFloat) {
    if (std::abs(number) > static_cast<double>(std::numeric_limits<float>::max())) return false;
    bits = std::bit_cast<uint32_t>(static_cast<float>(number));
  } else if (form == Form::kDouble) {
    bits = std::bit_cast<uint64_t>(number);
  } else {
    const double end = std::exp2(is_signed ? size - 1 : size);
    if (number >= end || number < (is_signed ? -end : 0)) return false;
    bits = is_signed ? static_cast<uint64_t>(static_cast<int64_t>(number)) : static_cast<uint64_t>(number);
  }
  int at = lowest_bit(*this);
  for (int i = 0; i < size; i++, at = next_bit(intel, at)) {
    const auto bit = static_cast<uint8_t>(1u << at % 8);
    data[at / 8] = static_cast<uint8_t>((bits >> i & 1) != 0 ? data[at / 8] | bit : data[at / 8] & ~bit);
  }
  return true;
}

const std::string* DbcSignal::text_of(double value) const {
  const double number = std::round((value - offset) / factor);
  for (const auto& [of, text] : texts)
    if (static_cast<double>(of) == number) return &text;
  return nullptr;
}

std::optional<double> DbcSignal::number_of(std::string_view text) const {
  for (const auto& [of, each] : texts)
    if (each == text) return static_cast<double>(of) * factor + offset;
  return std::nullopt;
}

const DbcSignal* DbcMessage::selector() const {
  const auto found = std::ranges::find_if(signals, &DbcSignal::selects);
  return found == signals.end() ? nullptr : &*found;
}

const DbcSignal* DbcMessage::find(std::string_view wanted) const {
  const auto found = std::ranges::find(signals, wanted, &DbcSignal::name);
  return found == signals.end() ? nullptr : &*found;
}

Result<Dbc> Dbc::parse(std::string_view text, std::string_view file_name) { return Reader(text, file_name).read(); }

const DbcMessage* Dbc::find(std::string_view name) const {
  const auto found = std::ranges::find(messages, name, &DbcMessage::name);
  return found == messages.end() ? nullptr : &*found;
}

std::optional<CanFrame> read_candump(std::string_view line) {
  CanFrame frame;
  const auto next = [&line] {
    while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
    const std::string_view word = line.substr(0, std::min(line.size(), line.find_first_of(" \t\r\n")));
    line.remove_prefix(word.size());
    return word;
  };
  std::string_view word = next();
  if (word.starts_with('(') && word.ends_with(')')) {
    const auto seconds = number_of<double>(word.substr(1, word.size() - 2));
    if (!seconds || !(*seconds >= 0 && *seconds < 1e12)) return std::nullopt;
    frame.time_ms = std::llround(*seconds * 1000);
    word = next();
  }
  if (word.find('#') == std::string_view::npos) word = next();  // behind the interface
  const size_t hash = word.find('#');
  if (hash != 3 && hash != 8) return std::nullopt;
  const auto id = number_of<uint32_t>(word.substr(0, hash), 16);
  if (!id || word[0] == '+') return std::nullopt;
  frame.extended = hash == 8;
  frame.error = frame.extended && (*id & 0x20000000) != 0;
  frame.id = *id & (frame.extended ? 0x1FFFFFFF : 0x7FF);
  if (frame.extended ? *id > 0x3FFFFFFF : *id > 0x7FF) return std::nullopt;
  word.remove_prefix(hash + 1);
  frame.fd = word.starts_with('#');
  if (frame.fd) {
    const auto flags = word.size() < 2 ? std::nullopt : number_of<uint8_t>(word.substr(1, 1), 16);
    if (!flags) return std::nullopt;
    frame.flags = *flags;
    word.remove_prefix(2);
  } else if (word.starts_with('R')) {
    frame.remote = true;
    return frame;
  }
  if (const size_t under = word.find('_'); under != std::string_view::npos) word = word.substr(0, under);  // len8_dlc
  if (word.size() % 2 != 0 || word.size() > (frame.fd ? 128 : 16)) return std::nullopt;
  for (size_t i = 0; i < word.size(); i += 2) {
    const auto byte = word[i] == '+' ? std::nullopt : number_of<uint8_t>(word.substr(i, 2), 16);
    if (!byte) return std::nullopt;
    frame.data[frame.size++] = *byte;
  }
  return frame;
}

std::string candump_text(const CanFrame& frame) {
  std::string text = frame.extended ? fmt::format("{:08X}#", frame.id) : fmt::format("{:03X}#", frame.id);
  if (frame.fd) text += fmt::format("#{:X}", frame.flags & 0xF);
  for (size_t i = 0; i < frame.size; i++) text += fmt::format("{:02X}", frame.data[i]);
  return text;
}

}  // namespace hearth::gateway
