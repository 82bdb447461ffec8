#include "cluster/pack_part.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "base/file_io.h"
#include "base/limits.h"
#include "base/mapped_file.h"
#include "model/open_cached.h"
#include "store/sha256.h"

namespace hearth::cluster {
namespace {

namespace fs = std::filesystem;

// What stays free on the disk.
constexpr uint64_t kSpareBytes = 64 << 20;

// What an assignment takes of a pack.
struct Needs {
  bool all = false, head = false, embedding = false;
  LayerRange layers{};
};

bool needed(const PackSegment& segment, const Needs& needs) {
  if (needs.all) return true;
  switch (segment.kind) {
    case SegmentKind::kText:
    case SegmentKind::kRope:
      return true;
    case SegmentKind::kLayer:
    case SegmentKind::kExpert:
      return segment.layer >= needs.layers.first && segment.layer < needs.layers.end;
    case SegmentKind::kEmbedding:
      return needs.embedding;
    case SegmentKind::kHead:
      return needs.head;
  }
  return true;
}

fs::path part_path(const fs::path& folder, const Digest& model) {
  return folder / (to_hex(model) + "-" + pack_layout() + ".part");
}
fs::path beside(const fs::path& part, std::string_view what) { return part.string() + "." + std::string(what); }

Result<std::set<std::string>> read_lines(const fs::path& path) {
  std::set<std::string> lines;
  std::error_code error;
  if (!fs::exists(path, error)) return lines;
  std::istringstream text(TRY(read_file(path, limits::kPackManifestBytes)));
  for (std::string line; std::getline(text, line);) lines.insert(line);
  return lines;
}
Result<void> write_lines(const fs::path& path, const std::set<std::string>& lines) {
  std::string text;
  for (const std::string& each : lines) text += each + "\n";
  return write_file_atomically(path, std::as_bytes(std::span(text)), 0600);
}

struct PieceAt {
  uint64_t offset = 0;
  uint32_t bytes = 0;
  [[nodiscard]] std::string text() const { return fmt::format("{} {}", offset, bytes); }
};
std::vector<PieceAt> pieces_of(uint64_t offset, uint64_t bytes) {
  std::vector<PieceAt> pieces;
  for (const uint64_t end = offset + bytes; offset < end; offset += pieces.back().bytes)
    pieces.push_back({offset, static_cast<uint32_t>(std::min<uint64_t>(end - offset, limits::kPieceOfModelBytes))});
  return pieces;
}

// splitmix64's last step.
uint64_t mixed(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

class PartFile {
 public:
  static Result<PartFile> open(const fs::path& folder, const Assign& assignment, const PackSources& sources) {
    std::error_code error;
    fs::create_directories(folder, error);
    const fs::path path = part_path(folder, assignment.model);
    Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(assignment.pack_bytes)) != 0) return disk_error(path, "making");
    PartFile part(std::move(fd), path, assignment, sources);
    part.pieces_ = TRY(read_lines(beside(path, "pieces")));
    part.verified_ = TRY(read_lines(beside(path, "have")));
    return part;
  }

  // Pieces of these that are for this machine to take from the owner.
  Result<void> take_own(std::span<const PackSegment* const> segments) {
    for (const PackSegment* segment : segments)
      for (const PieceAt& piece : pieces_of(segment->offset, segment->bytes))
        if (taker(piece, segment) == self()) TRY(get(piece, segment));
    return {};
  }

  // `segment`: that they belong to; null: all that fetch need them.
  Result<void> get(uint64_t offset, uint64_t bytes, const PackSegment* segment = nullptr) {
    for (const PieceAt& piece : pieces_of(offset, bytes)) TRY(get(piece, segment));
    return {};
  }

  // Header and manifest; if they are not right they are forgotten.
  Result<void> get_manifest() {
    TRY(get(0, kPackHeaderBytes));
    const MappedFile file = TRY(MappedFile::open(path_));
    const auto header = parse_pack_header(file.bytes());
    if (header && header->source_sha256 == assignment_.model) {
      TRY(get(header->manifest_offset, header->manifest_bytes));
      const auto pack = parse_pack(file.bytes());
      if (pack) return {};
      TRY(forget(header->manifest_offset, header->manifest_bytes));
      TRY(forget(0, kPackHeaderBytes));
      return std::unexpected(pack.error());
    }
    TRY(forget(0, kPackHeaderBytes));
    if (!header) return std::unexpected(header.error());
    return fail(Code::kCorrupt, "{}: the owner's pack is of another model", path_.string());
  }

  Result<void> get(const PackSegment& segment) {
    const std::string digest = to_hex(segment.sha256);
    if (verified_.contains(digest)) return {};
    if (TRY(free_disk_bytes(path_)) < segment.bytes + kSpareBytes)
      return fail(Code::kLimit, "{}: no room for {} of {} bytes", path_.string(), describe(segment), segment.bytes);
    do {
      TRY(get(segment.offset, segment.bytes, &segment));
      if (TRY(is_right(segment))) {
        TRY(flush(path_));
        verified_.insert(digest);
        return write_lines(beside(path_, "have"), verified_);
      }
      TRY(forget(segment.offset, segment.bytes));
    } while (forget_others());  // another machine may have given it
    TRY(forget(0, kPackHeaderBytes));  // the owner may have made another pack since; the next time all is asked anew
    return fail(Code::kCorrupt, "{} of {}: not what the manifest says", describe(segment), path_.string());
  }

  // From now on all comes from the owner; false if it did already.
  bool forget_others() { return std::exchange(from_others_, false) && !assignment_.peers.empty(); }

  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  PartFile(Descriptor fd, fs::path path, const Assign& assignment, const PackSources& sources)
      : fd_(std::move(fd)), path_(std::move(path)), assignment_(assignment), sources_(sources) {}

  [[nodiscard]] int self() const { return assignment_.peers.empty() ? -1 : static_cast<int>(assignment_.self); }
  // Of the machines that need it the one with the highest number for it; -1: there are no others.
  [[nodiscard]] int taker(const PieceAt& piece, const PackSegment* segment) const {
    int best = self();
    uint64_t highest = 0;
    for (size_t i = 0; i < assignment_.peers.size(); ++i) {
      if (segment && !needed(*segment, {.all = assignment_.keep, .layers = assignment_.peers[i].layers})) continue;
      const uint64_t number = mixed(mixed(piece.offset + 1) + i);
      if (number >= highest) best = static_cast<int>(i), highest = number;
    }
    return best;
  }

  Result<void> get(const PieceAt& piece, const PackSegment* segment) {
    if (pieces_.contains(piece.text())) return {};
    const int from = from_others_ ? taker(piece, segment) : self();
    std::vector<std::byte> bytes;
    if (from != self())
      bytes =
          sources_.peer(assignment_.peers[static_cast<size_t>(from)], {assignment_.model, piece.offset, piece.bytes});
    if (bytes.size() != piece.bytes) bytes = TRY(sources_.owner(piece.offset, piece.bytes));
    if (bytes.size() != piece.bytes)
      return fail(Code::kCorrupt, "the owner's pack is cut short at {}", piece.offset + bytes.size());
    TRY(write_at(fd_.get(), piece.offset, bytes, path_));
    pieces_.insert(piece.text());
    TRY(write_lines(beside(path_, "pieces"), pieces_));
    if (sources_.fetched) sources_.fetched();
    return {};
  }

  Result<void> forget(uint64_t offset, uint64_t bytes) {
    for (const PieceAt& piece : pieces_of(offset, bytes)) pieces_.erase(piece.text());
    return write_lines(beside(path_, "pieces"), pieces_);
  }

  Result<bool> is_right(const PackSegment& segment) const {
    const MappedFile file = TRY(MappedFile::open(path_));
    Sha256 hash;
    hash.update(file.bytes().subspan(segment.offset, segment.bytes));
    return hash.hex() == to_hex(segment.sha256);
  }

  Descriptor fd_;
  fs::path path_;
  const Assign& assignment_;
  const PackSources& sources_;
  std::set<std::string> pieces_, verified_;
  bool from_others_ = true;
};

}  // namespace

Result<Checkpoint> open_pack_part(const fs::path& folder, const Assign& assignment, const PackSources& sources) {
  if (assignment.pack_bytes < kPackHeaderBytes)
    return fail(Code::kMalformed, "a pack of {} bytes", assignment.pack_bytes);
  PartFile part = TRY(PartFile::open(folder, assignment, sources));
  auto begun = part.get_manifest();
  if (!begun && part.forget_others())
    begun = part.get_manifest();  // another machine may have given what is no manifest
  TRY(begun);
  const MappedFile file = TRY(MappedFile::open(part.path()));
  const Pack pack = TRY(parse_pack(file.bytes()));
  const bool head = assignment.kind == Assign::Kind::kHead;
  const bool tied =
      std::ranges::find(pack.manifest.tensors, "output.weight", &PackTensor::name) == pack.manifest.tensors.end();
  const Needs needs{.all = assignment.keep, .head = head, .embedding = head && tied, .layers = assignment.layers};
  std::vector<const PackSegment*> segments;
  for (const PackSegment& segment : pack.manifest.segments)
    if (needed(segment, needs)) segments.push_back(&segment);
  TRY(part.take_own(segments));  // others wait for these
  for (const PackSegment* segment : segments) TRY(part.get(*segment));
  return open_pack(TRY(MappedFile::open(part.path())));
}

Result<std::vector<std::byte>> read_pack_part(const fs::path& folder, const Want& want) {
  const fs::path path = part_path(folder, want.model);
  const PieceAt piece{want.offset, want.bytes};
  const std::set<std::string> pieces = TRY(read_lines(beside(path, "pieces")));
  if (!pieces.contains(piece.text()))
    return fail(Code::kNotFound, "{}: {} bytes at {} are not there", path.string(), want.bytes, want.offset);
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return disk_error(path, "opening");
  std::vector<std::byte> bytes(want.bytes);
  bytes.resize(TRY(read_at(fd.get(), want.offset, bytes, path)));
  return bytes;
}

}  // namespace hearth::cluster
