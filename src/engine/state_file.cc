#include "engine/state_file.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "HSTATE01";
constexpr std::string_view kIndexPurpose = "index of a state";
constexpr size_t kPlainBytes = StateFile::kPieceBytes - Sealer::kTagBytes;
constexpr size_t kFixedBytes = kMagic.size() + sizeof(uint64_t);

template <typename T>
void append(std::vector<std::byte>& out, const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}
void append(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  append(out, uint64_t{bytes.size()});
  out.insert(out.end(), bytes.begin(), bytes.end());
}

Result<std::span<const std::byte>> take(std::span<const std::byte>& rest) {
  uint64_t size = 0;
  if (rest.size() < sizeof size) return fail(Code::kMalformed, "a state's index ends in a length");
  std::memcpy(&size, rest.data(), sizeof size);
  rest = rest.subspan(sizeof size);
  if (size > rest.size())
    return fail(Code::kMalformed, "a state's index: {} bytes of a part that has {}", rest.size(), size);
  const auto bytes = rest.first(size);
  rest = rest.subspan(size);
  return bytes;
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string with_owner(const StateOwner& owner, std::string_view rest) {
  return fmt::format("{} {} {} {}", owner.tenant.size(), owner.tenant, owner.model, rest);
}

// The state is bound to its owner and its tokens: another's, put in its place, does not open.
std::string purpose_of(const Key& key, const StateIndex& index) {
  return "state " + with_owner(index.owner, state_name(key, index.owner, index.tokens));
}

uint64_t whole_pages(uint64_t bytes) {
  return (bytes + DirectFile::kAlignment - 1) / DirectFile::kAlignment * DirectFile::kAlignment;
}

uint32_t pieces_of(uint64_t state_bytes) {
  return static_cast<uint32_t>((state_bytes + kPlainBytes - 1) / kPlainBytes);
}

std::span<std::byte> span_of(const PageMemory& memory) { return {memory.data(), static_cast<size_t>(memory.bytes())}; }

}  // namespace

std::string state_name(const Key& key, const StateOwner& owner, std::span<const Token> tokens) {
  return key.name_of(with_owner(owner, text_of(std::as_bytes(tokens))));
}

Result<StateIndex> parse_state_index(std::span<const std::byte> bytes) {
  StateIndex index;
  index.owner.tenant = text_of(TRY(take(bytes)));
  index.owner.model = text_of(TRY(take(bytes)));
  const auto tokens = TRY(take(bytes));
  index.note = text_of(TRY(take(bytes)));
  if (tokens.size() % sizeof(Token) != 0 || tokens.size() / sizeof(Token) > limits::kContext)
    return fail(Code::kMalformed, "a state's index: {} bytes of tokens", tokens.size());
  index.tokens.resize(tokens.size() / sizeof(Token));
  if (!tokens.empty()) std::memcpy(index.tokens.data(), tokens.data(), tokens.size());
  if (bytes.size() != sizeof index.state_bytes)
    return fail(Code::kMalformed, "a state's index: {} bytes at its end", bytes.size());
  std::memcpy(&index.state_bytes, bytes.data(), sizeof index.state_bytes);
  if (index.state_bytes == 0 || index.state_bytes > limits::kFileBytes)
    return fail(Code::kMalformed, "a state of {} bytes", index.state_bytes);
  return index;
}

Result<StateFile> StateFile::open(const fs::path& path, const Key& key) {
  DirectFile file = TRY(DirectFile::open(path));
  PageMemory memory = TRY(PageMemory::allocate(DirectFile::kAlignment));
  auto no_state = [&] { return fail(Code::kMalformed, "{}: not a saved state, or cut short", path.string()); };
  if (file.bytes() < kFixedBytes) return no_state();
  TRY(file.read(0, span_of(memory)));
  uint64_t sealed_bytes = 0;
  std::memcpy(&sealed_bytes, memory.data() + kMagic.size(), sizeof sealed_bytes);
  if (std::memcmp(memory.data(), kMagic.data(), kMagic.size()) != 0 || sealed_bytes > limits::kStateIndexBytes)
    return no_state();
  const uint64_t begin = whole_pages(kFixedBytes + sealed_bytes + Sealer::kHeaderBytes);
  if (file.bytes() < begin) return no_state();
  memory = TRY(PageMemory::allocate(static_cast<int64_t>(begin)));
  TRY(file.read(0, span_of(memory)));
  const auto head = std::span<const std::byte>(span_of(memory));
  const auto plain = unseal(key, kIndexPurpose, head.subspan(kFixedBytes, sealed_bytes));
  if (!plain) return within(path.string(), plain.error());
  StateIndex index = TRY(parse_state_index(*plain));
  if (file.bytes() != begin + index.state_bytes + uint64_t{pieces_of(index.state_bytes)} * Sealer::kTagBytes)
    return no_state();
  Sealer sealer =
      TRY(Sealer::open(key, purpose_of(key, index), head.subspan(kFixedBytes + sealed_bytes, Sealer::kHeaderBytes)));
  return StateFile(std::move(file), std::move(index), std::move(sealer), begin);
}

uint32_t StateFile::pieces() const { return pieces_of(index_.state_bytes); }

Result<void> StateFile::read_piece(uint32_t piece, std::span<std::byte> buffer, const StateBytes& into) const {
  const uint64_t offset = uint64_t{piece} * kPlainBytes;
  const auto plain_bytes = static_cast<size_t>(std::min<uint64_t>(kPlainBytes, index_.state_bytes - offset));
  const auto sealed = buffer.first(plain_bytes + Sealer::kTagBytes);
  TRY(file_.read(begin_ + uint64_t{piece} * kPieceBytes, buffer.first(whole_pages(sealed.size()))));
  TRY(sealer_.unseal(piece, piece + 1 == pieces(), sealed, buffer.first(plain_bytes)));
  if (into.size() != index_.state_bytes || !into.write(offset, buffer.first(plain_bytes)))
    return fail(Code::kMalformed, "a saved state of {} bytes is not the one that was looked for", index_.state_bytes);
  return {};
}

Result<void> StateFile::read_all(const StateBytes& into) const {
  const PageMemory buffer = TRY(PageMemory::allocate(kPieceBytes));
  for (uint32_t piece = 0; piece < pieces(); ++piece) TRY(read_piece(piece, span_of(buffer), into));
  return {};
}

Result<uint64_t> StateFile::write(const fs::path& path, const Key& key, StateIndex index, const StateBytes& from) {
  index.state_bytes = from.size();
  std::vector<std::byte> plain;
  for (const std::string& text : {index.owner.tenant, index.owner.model}) append(plain, std::as_bytes(std::span(text)));
  append(plain, std::as_bytes(std::span(index.tokens)));
  append(plain, std::as_bytes(std::span(index.note)));
  append(plain, index.state_bytes);
  const auto sealed = seal(key, kIndexPurpose, plain);
  if (sealed.size() > limits::kStateIndexBytes)
    return fail(Code::kLimit, "{}: {} bytes of tokens and text; the limit is {}", path.string(), sealed.size(),
                limits::kStateIndexBytes);
  const Sealer sealer(key, purpose_of(key, index));
  const uint64_t begin = whole_pages(kFixedBytes + sealed.size() + Sealer::kHeaderBytes);
  const uint32_t pieces = pieces_of(index.state_bytes);
  const uint64_t bytes = begin + index.state_bytes + uint64_t{pieces} * Sealer::kTagBytes;

  const fs::path part = path.string() + ".part";
  auto fill = [&]() -> Result<void> {
    const DirectFile file = TRY(DirectFile::create(part, bytes));
    std::vector<std::byte> head;
    for (const char c : kMagic) head.push_back(static_cast<std::byte>(c));
    append(head, std::span<const std::byte>(sealed));
    head.insert(head.end(), sealer.header().begin(), sealer.header().end());
    const PageMemory first = TRY(PageMemory::allocate(static_cast<int64_t>(begin)));
    std::ranges::copy(head, first.data());
    TRY(file.write(0, span_of(first)));
    const PageMemory memory = TRY(PageMemory::allocate(kPieceBytes));
    const auto buffer = span_of(memory);
    for (uint32_t piece = 0; piece < pieces; ++piece) {
      const uint64_t offset = uint64_t{piece} * kPlainBytes;
      const auto plain_bytes = static_cast<size_t>(std::min<uint64_t>(kPlainBytes, index.state_bytes - offset));
      from.read(offset, buffer.first(plain_bytes));
      const auto out = buffer.first(plain_bytes + Sealer::kTagBytes);
      sealer.seal(piece, piece + 1 == pieces, buffer.first(plain_bytes), out);
      TRY(file.write(begin + uint64_t{piece} * kPieceBytes, buffer.first(whole_pages(out.size()))));
    }
    return file.finish();
  };
  auto filled = fill();
  std::error_code error;
  if (filled) {
    fs::rename(part, path, error);
    if (error) filled = fail(Code::kIo, "{}: {}", path.string(), error.message());
  }
  if (filled) return bytes;
  fs::remove(part, error);
  return std::unexpected(filled.error());
}

}  // namespace hearth
