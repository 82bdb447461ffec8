#include "cluster/wire.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/checked.h"

namespace hearth::cluster {
namespace {

static_assert(std::endian::native == std::endian::little, "frames are copied as they lie in memory");

constexpr auto kCrcTables = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78u : 0u);
    tables[0][i] = value;
  }
  for (size_t t = 1; t < tables.size(); ++t)
    for (size_t i = 0; i < 256; ++i) tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 0xff];
  return tables;
}();

constexpr size_t kBlock = 64;  // values of a row with one scale

// The kinds are the places in Message.
constexpr uint8_t kKinds = std::variant_size_v<Message>;

class Writer {
 public:
  explicit Writer(size_t payload) {
    out_.reserve(kFrameHeaderBytes + payload);
    out_.resize(kFrameHeaderBytes);
  }
  template <typename T>
  void put(T value) {
    static_assert(std::is_integral_v<T>);
    append(std::as_bytes(std::span(&value, 1)));
  }
  void append(std::span<const std::byte> bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void text(std::string_view text) {
    CHECK(text.size() <= limits::kFrameTextBytes);
    put(static_cast<uint16_t>(text.size()));
    append(std::as_bytes(std::span(text)));
  }
  void long_text(std::string_view text) {
    put(static_cast<uint32_t>(text.size()));
    append(std::as_bytes(std::span(text)));
  }
  void floats(std::span<const float> values) {
    put(static_cast<uint32_t>(values.size()));
    append(std::as_bytes(values));
  }
  void floats(std::span<const float> values, RowFormat format) {
    put(static_cast<uint8_t>(format));
    if (format == RowFormat::kF32) return floats(values);
    put(static_cast<uint32_t>(values.size()));
    for (; !values.empty(); values = values.subspan(std::min(values.size(), kBlock)))
      format == RowFormat::kI16 ? block<int16_t>(values.first(std::min(values.size(), kBlock)))
                                : block<int8_t>(values.first(std::min(values.size(), kBlock)));
  }
  std::vector<std::byte> finish(size_t kind, uint64_t epoch, uint64_t step) {
    const size_t payload = out_.size() - kFrameHeaderBytes;
    CHECK(payload <= limits::kFrameBytes);
    size_t at = 8;
    auto set = [&](auto value) {
      std::memcpy(out_.data() + at, &value, sizeof value);
      at += sizeof value;
    };
    set(kWireVersion), set(static_cast<uint8_t>(kind)), set(uint16_t{0}), set(epoch), set(step);
    const uint32_t crc = crc32c(std::span(out_).subspan(8));
    at = 0;
    set(static_cast<uint32_t>(payload)), set(crc);
    return std::move(out_);
  }

 private:
  template <typename Int>
  void block(std::span<const float> values) {
    float most = 0;
    for (const float value : values) most = std::max(most, std::abs(value));
    const float scale = most / static_cast<float>(std::numeric_limits<Int>::max());
    put(std::bit_cast<uint32_t>(scale));
    for (const float value : values)
      put(static_cast<Int>(scale > 0 && std::isfinite(scale) ? std::lrintf(value / scale) : 0));
  }

  std::vector<std::byte> out_;
};

// Reads fields one after the other; once something was not there, all is zero and ok() false.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool done() const { return ok_ && rest_.empty(); }
  [[nodiscard]] size_t left() const { return rest_.size(); }
  void refuse() { ok_ = false; }
  std::span<const std::byte> take(size_t bytes) {
    if (!ok_ || bytes > rest_.size()) {
      ok_ = false;
      return {};
    }
    const auto taken = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return taken;
  }
  template <typename T>
  T get() {
    T value{};
    const auto bytes = take(sizeof value);
    if (ok_) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  // A number from 0 to `most`.
  template <typename T>
  T at_most(uint64_t most) {
    const T value = get<T>();
    if (std::cmp_less(value, 0) || std::cmp_greater(value, most)) ok_ = false;
    return ok_ ? value : T{};
  }
  template <typename T>
  void fill(T& into) {
    const auto bytes = take(sizeof into);
    if (ok_) std::memcpy(&into, bytes.data(), sizeof into);
  }
  std::string text() {
    const auto bytes = take(at_most<uint16_t>(limits::kFrameTextBytes));
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::string long_text() {
    const auto bytes = take(at_most<uint32_t>(limits::kPemBytes));
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // So many elements of `bytes` each can still follow.
  size_t count(size_t bytes) {
    const auto n = get<uint32_t>();
    if (n > rest_.size() / bytes) ok_ = false;
    return ok_ ? n : 0;
  }
  std::vector<float> floats() {
    std::vector<float> values(count(sizeof(float)));
    const auto bytes = take(values.size() * sizeof(float));
    if (ok_ && !values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  std::vector<float> floats(RowFormat& format) {
    format = static_cast<RowFormat>(at_most<uint8_t>(static_cast<uint64_t>(RowFormat::kI8)));
    if (format == RowFormat::kF32) return floats();
    std::vector<float> values(count(format == RowFormat::kI16 ? 2 : 1));
    for (std::span<float> rest = values; !rest.empty() && ok_; rest = rest.subspan(std::min(rest.size(), kBlock)))
      format == RowFormat::kI16 ? block<int16_t>(rest.first(std::min(rest.size(), kBlock)))
                                : block<int8_t>(rest.first(std::min(rest.size(), kBlock)));
    return values;
  }

 private:
  template <typename Int>
  void block(std::span<float> values) {
    const auto scale = std::bit_cast<float>(get<uint32_t>());
    std::array<Int, kBlock> ints{};
    const auto bytes = take(values.size() * sizeof(Int));
    if (!ok_) return;
    std::memcpy(ints.data(), bytes.data(), bytes.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] = scale * static_cast<float>(ints[i]);
  }

  std::span<const std::byte> rest_;
  bool ok_ = true;
};

void write(Writer& out, const Hello& m) {
  out.put(static_cast<uint8_t>(m.link));
  out.append(m.session);
}
void read(Reader& in, Hello& m) {
  m.link = static_cast<LinkClass>(in.at_most<uint8_t>(static_cast<uint64_t>(LinkClass::kCopies)));
  in.fill(m.session);
}

void write(Writer& out, LayerRange layers) {
  out.put(static_cast<uint32_t>(layers.first)), out.put(static_cast<uint32_t>(layers.end));
}
void read(Reader& in, LayerRange& layers) {
  layers.first = static_cast<int>(in.at_most<uint32_t>(limits::kLayers));
  layers.end = static_cast<int>(in.at_most<uint32_t>(limits::kLayers));
  if (layers.end < layers.first) in.refuse();
}

void write(Writer& out, const Assign& m) {
  out.put(static_cast<uint8_t>(m.kind));
  out.append(m.model);
  out.put(m.pack_bytes);
  write(out, m.layers);
  out.put(m.context), out.put(m.rows_max), out.put(static_cast<uint8_t>(m.kv_type));
  out.put(m.positions_max), out.put(m.sequences_max);
  out.text(m.next);
  out.put(static_cast<uint8_t>(m.keep));
  out.put(static_cast<uint32_t>(m.peers.size()));
  for (const PartPeer& peer : m.peers) out.text(peer.address), write(out, peer.layers);
  out.put(m.self);
  out.put(static_cast<uint32_t>(m.cuts.size()));
  for (const uint32_t cut : m.cuts) out.put(cut);
  out.put(static_cast<uint8_t>(m.rows));
}
void read(Reader& in, Assign& m) {
  m.kind = static_cast<Assign::Kind>(in.at_most<uint8_t>(static_cast<uint64_t>(Assign::Kind::kHead)));
  in.fill(m.model);
  m.pack_bytes = in.at_most<uint64_t>(limits::kFileBytes);
  read(in, m.layers);
  m.context = in.at_most<uint32_t>(limits::kContext);
  m.rows_max = in.at_most<uint32_t>(limits::kFrameRows);
  m.kv_type = static_cast<KvType>(in.at_most<uint8_t>(static_cast<uint64_t>(KvType::kI4)));
  m.positions_max = in.at_most<uint32_t>(limits::kContext);
  m.sequences_max = in.at_most<uint32_t>(limits::kStageSequences);
  m.next = in.text();
  m.keep = in.at_most<uint8_t>(1) != 0;
  const size_t peers = in.count(10);
  if (peers > limits::kStages) return in.refuse();
  m.peers.resize(peers);
  for (PartPeer& peer : m.peers) {
    if (!in.ok()) break;
    peer.address = in.text();
    read(in, peer.layers);
  }
  m.self = in.get<uint32_t>();
  if (!m.peers.empty() && m.self >= m.peers.size()) in.refuse();
  m.cuts.resize(in.count(sizeof(uint32_t)));
  auto last = static_cast<uint32_t>(m.layers.first);
  for (uint32_t& cut : m.cuts) {
    cut = in.at_most<uint32_t>(limits::kLayers);
    if (cut <= last || std::cmp_greater_equal(cut, m.layers.end)) in.refuse();
    last = cut;
  }
  m.rows = static_cast<RowFormat>(in.at_most<uint8_t>(static_cast<uint64_t>(RowFormat::kI8)));
}

void write(Writer& out, const Ready& m) {
  out.put(static_cast<uint8_t>(m.has_state));
  out.put(m.done), out.put(m.oldest), out.put(m.warm_up_us);
}
void read(Reader& in, Ready& m) {
  m.has_state = in.at_most<uint8_t>(1) != 0;
  m.done = in.get<uint64_t>(), m.oldest = in.get<uint64_t>(), m.warm_up_us = in.get<uint32_t>();
  if (m.done == UINT64_MAX || m.oldest > m.done + 1) in.refuse();
}

void write(Writer& out, const CopyTo& m) {
  write(out, m.layers);
  out.text(m.to);
}
void read(Reader& in, CopyTo& m) {
  read(in, m.layers);
  m.to = in.text();
}

void write(Writer& out, const CopyPart& m) {
  write(out, m.layers);
  out.put(static_cast<uint8_t>(m.whole));
  out.put(static_cast<uint32_t>(m.tables.size()));
  for (const SequenceStore::Table& table : m.tables) {
    out.put(table.sequence), out.put(table.length), out.put(static_cast<uint32_t>(table.pages.size()));
    out.append(std::as_bytes(std::span(table.pages)));
  }
  out.put(static_cast<uint32_t>(m.pages.size()));
  out.append(std::as_bytes(std::span(m.pages)));
  out.put(static_cast<uint32_t>(m.bytes.size()));
  out.append(m.bytes);
}
void read(Reader& in, CopyPart& m) {
  const auto read_pages = [&](std::vector<int32_t>& pages) {
    pages.resize(in.count(sizeof(int32_t)));
    for (int32_t& page : pages) page = in.at_most<int32_t>(INT32_MAX);
  };
  read(in, m.layers);
  m.whole = in.at_most<uint8_t>(1) != 0;
  m.tables.resize(in.count(12));
  for (SequenceStore::Table& table : m.tables) {
    table.sequence = in.at_most<int32_t>(limits::kStageSequences);
    table.length = in.at_most<int32_t>(limits::kContext);
    read_pages(table.pages);
  }
  read_pages(m.pages);
  const auto bytes = in.take(in.count(1));
  m.bytes.assign(bytes.begin(), bytes.end());
}

void write(Writer& out, const Copied& m) {
  write(out, m.layers);
  out.put(static_cast<uint8_t>(m.whole)), out.put(m.done);
}
void read(Reader& in, Copied& m) {
  read(in, m.layers);
  m.whole = in.at_most<uint8_t>(1) != 0;
  m.done = in.get<uint64_t>();
}

void write(Writer& out, std::span<const SequenceOp> ops, std::span<const StepRows> rows, std::span<const float> hidden,
           RowFormat format) {
  out.put(static_cast<uint32_t>(ops.size()));
  for (const SequenceOp& op : ops) out.put(static_cast<uint8_t>(op.kind)), out.put(op.sequence), out.put(op.value);
  out.put(static_cast<uint32_t>(rows.size()));
  for (const StepRows& part : rows) out.put(part.sequence), out.put(part.position), out.put(part.count);
  out.floats(hidden, format);
}
void read(Reader& in, Step& m) {
  m.ops.resize(in.count(9));
  for (SequenceOp& op : m.ops) {
    op.kind = static_cast<SequenceOp::Kind>(in.at_most<uint8_t>(static_cast<uint64_t>(SequenceOp::Kind::kAdvance)));
    op.sequence = in.at_most<int32_t>(limits::kStageSequences);
    op.value = in.at_most<int32_t>(limits::kContext);
  }
  m.rows.resize(in.count(12));
  uint64_t n = 0;
  for (StepRows& part : m.rows) {
    part.sequence = in.at_most<int32_t>(limits::kStageSequences);
    part.position = in.at_most<int32_t>(limits::kContext);
    part.count = in.at_most<int32_t>(limits::kFrameRows);
    if (part.count == 0) in.refuse();
    n += static_cast<uint64_t>(part.count);
  }
  m.hidden = in.floats(m.format);
  if (n > limits::kFrameRows || (n == 0) != m.hidden.empty() || (n > 0 && m.hidden.size() % n != 0)) in.refuse();
}

void write(Writer& out, const StepAnswer& m) { out.floats(m.hidden, m.format); }
void read(Reader& in, StepAnswer& m) { m.hidden = in.floats(m.format); }

void write(Writer& out, const Failure& m) {
  out.put(static_cast<uint8_t>(m.of));
  out.text(std::string_view(m.message).substr(0, limits::kFrameTextBytes));
}
void read(Reader& in, Failure& m) {
  m.of = static_cast<Failure::Of>(in.at_most<uint8_t>(static_cast<uint64_t>(Failure::Of::kOwner)));
  m.message = in.text();
}

void write(Writer& out, const Fetch& m) { out.put(m.offset), out.put(m.bytes); }
void read(Reader& in, Fetch& m) {
  m.offset = in.at_most<uint64_t>(limits::kFileBytes);
  m.bytes = in.at_most<uint32_t>(limits::kPieceOfModelBytes);
}

void write(Writer& out, const Want& m) { out.append(m.model), out.put(m.offset), out.put(m.bytes); }
void read(Reader& in, Want& m) {
  in.fill(m.model);
  m.offset = in.at_most<uint64_t>(limits::kFileBytes);
  m.bytes = in.at_most<uint32_t>(limits::kPieceOfModelBytes);
}

void write(Writer& out, const PackPiece& m) {
  out.put(m.offset), out.put(static_cast<uint32_t>(m.bytes.size()));
  out.append(m.bytes);
}
void read(Reader& in, PackPiece& m) {
  m.offset = in.at_most<uint64_t>(limits::kFileBytes);
  const auto bytes = in.take(in.at_most<uint32_t>(limits::kPieceOfModelBytes));
  m.bytes.assign(bytes.begin(), bytes.end());
}

void write(Writer& out, const Enrol& m) { out.text(m.secret), out.long_text(m.request_pem); }
void read(Reader& in, Enrol& m) {
  m.secret = in.text();
  m.request_pem = in.long_text();
}

void write(Writer& out, const Enrolled& m) {
  out.long_text(m.certificate_pem), out.long_text(m.authority_pem);
  out.text(m.brokers), out.long_text(m.revoked_pem);
}
void read(Reader& in, Enrolled& m) {
  m.certificate_pem = in.long_text();
  m.authority_pem = in.long_text();
  m.brokers = in.text();
  m.revoked_pem = in.long_text();
}

void write(Writer& out, const Ping& m) { out.append(m.padding); }
void read(Reader& in, Ping& m) {
  if (in.left() > limits::kPieceOfModelBytes) return in.refuse();
  const auto padding = in.take(in.left());
  m.padding.assign(padding.begin(), padding.end());
}

void write(Writer& out, const Pong& m) { out.put(m.busy_ms); }
void read(Reader& in, Pong& m) {
  m.busy_ms = in.at_most<uint64_t>(uint64_t{1} << 40);
}  // an age; it is calculated with

void write(Writer& out, const Step& m) { write(out, m.ops, m.rows, m.hidden, m.format); }
void write(Writer&, const Leaving&) {}
void read(Reader&, Leaving&) {}

void write(Writer& out, const HeadRows& m) {
  out.put(m.count);
  out.floats(m.hidden);
}
void read(Reader& in, HeadRows& m) {
  m.count = in.at_most<uint32_t>(limits::kHeadTokens);
  m.hidden = in.floats();
}

void write(Writer& out, const HeadAnswer& m) {
  out.put(static_cast<uint32_t>(m.tokens.size()));
  out.append(std::as_bytes(std::span(m.tokens)));
  out.floats(m.logits);
}
void read(Reader& in, HeadAnswer& m) {
  m.tokens.resize(in.count(sizeof(int32_t)));
  for (int32_t& token : m.tokens) token = in.at_most<int32_t>(limits::kVocabulary);
  m.logits = in.floats();
  if (!m.tokens.empty() && m.tokens.size() != m.logits.size()) in.refuse();
}

template <size_t kKind = 0>
Message read_message(Reader& in, uint8_t kind) {
  if constexpr (kKind + 1 < kKinds) {
    if (kind != kKind) return read_message<kKind + 1>(in, kind);
  }
  std::variant_alternative_t<kKind, Message> message{};
  read(in, message);
  return message;
}

}  // namespace

size_t head_rows_max(uint32_t count, size_t n_vocab) {
  return std::max<size_t>(1, limits::kHeadAnswerValues / (count > 0 ? 2 * size_t{count} : n_vocab));
}

PackPiece cut_piece(std::span<const std::byte> pack, const Fetch& fetch) {
  const uint64_t begin = std::min<uint64_t>(fetch.offset, pack.size());
  const auto bytes = pack.subspan(begin, std::min<uint64_t>(fetch.bytes, pack.size() - begin));
  return {fetch.offset, {bytes.begin(), bytes.end()}};
}

uint32_t crc32c(std::span<const std::byte> bytes) {
  uint32_t crc = ~0u;
  const auto& t = kCrcTables;
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    word ^= crc;
    crc = 0;
    for (size_t i = 0; i < 8; ++i) crc ^= t[7 - i][(word >> (8 * i)) & 0xff];
  }
  for (const std::byte byte : bytes) crc = (crc >> 8) ^ t[0][(crc ^ static_cast<uint32_t>(byte)) & 0xff];
  return ~crc;
}

std::vector<std::byte> to_bytes(const Frame& frame) {
  Writer out(std::holds_alternative<PackPiece>(frame.message) ? limits::kPieceOfModelBytes : 256);
  std::visit([&](const auto& message) { write(out, message); }, frame.message);
  return out.finish(frame.message.index(), frame.epoch, frame.step);
}

std::vector<std::byte> step_bytes(uint64_t epoch, uint64_t step, std::span<const SequenceOp> ops,
                                  std::span<const StepRows> rows, std::span<const float> hidden, RowFormat format) {
  Writer out(16 + 9 * ops.size() + 12 * rows.size() + hidden.size_bytes());
  write(out, ops, rows, hidden, format);
  return out.finish(Message(Step{}).index(), epoch, step);
}

std::span<std::byte> FrameReader::room() {
  constexpr size_t kRead = 64 << 10;
  if (begin_ == used_) begin_ = used_ = 0;
  if (buffer_.size() - used_ < kRead) {
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, used_ - begin_);
      used_ -= begin_, begin_ = 0;
    }
    // Grows with what arrives, not with what a header says.
    if (buffer_.size() - used_ < kRead) buffer_.resize(std::max(2 * buffer_.size(), used_ + kRead));
  }
  return std::span(buffer_).subspan(used_);
}

Result<std::optional<Frame>> FrameReader::next() {
  const auto bytes = std::span<const std::byte>(buffer_).subspan(begin_, used_ - begin_);
  if (bytes.size() < kFrameHeaderBytes) return std::nullopt;
  Reader head(bytes.first(kFrameHeaderBytes));
  const auto payload = head.get<uint32_t>(), crc = head.get<uint32_t>();
  const auto version = head.get<uint8_t>(), kind = head.get<uint8_t>();
  const auto zero = head.get<uint16_t>();
  Frame frame;
  frame.epoch = head.get<uint64_t>(), frame.step = head.get<uint64_t>();
  if (version != kWireVersion)
    return fail(Code::kUnsupported, "a frame of version {}; this program speaks {}", version, kWireVersion);
  if (kind >= kKinds || zero != 0) return fail(Code::kMalformed, "a frame of kind {}", kind);
  if (payload > payload_max_) return fail(Code::kLimit, "a frame of {} bytes; the limit is {}", payload, payload_max_);
  if (bytes.size() < kFrameHeaderBytes + payload) return std::nullopt;
  if (crc32c(bytes.subspan(8, kFrameHeaderBytes - 8 + payload)) != crc)
    return fail(Code::kCorrupt, "a frame of {} bytes does not have its checksum", payload);
  Reader in(bytes.subspan(kFrameHeaderBytes, payload));
  frame.message = read_message(in, kind);
  if (!in.done()) return fail(Code::kMalformed, "a frame of kind {}: its {} bytes are no such message", kind, payload);
  begin_ += kFrameHeaderBytes + payload;
  return frame;
}

}  // namespace hearth::cluster
