#include "cluster/pack_part.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <set>

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

class PartFile {
 public:
  static Result<PartFile> open(const fs::path& folder, const Assign& assignment, const FetchPack& fetch) {
    std::error_code error;
    fs::create_directories(folder, error);
    const fs::path path = folder / (to_hex(assignment.model) + "-" + pack_layout() + ".part");
    Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(assignment.pack_bytes)) != 0) return disk_error(path, "making");
    PartFile part(std::move(fd), path, fetch);
    const fs::path list = part.list();
    if (fs::exists(list, error)) {
      const std::string text = TRY(read_file(list, limits::kPackManifestBytes));
      for (size_t at = 0; at + 65 <= text.size(); at += 65) part.have_.insert(text.substr(at, 64));
    }
    return part;
  }

  // Bytes [offset, offset + bytes) of the file, in pieces.
  Result<void> get(uint64_t offset, uint64_t bytes) {
    for (const uint64_t end = offset + bytes; offset < end;) {
      const auto want = static_cast<uint32_t>(std::min<uint64_t>(end - offset, limits::kPieceOfModelBytes));
      const std::vector<std::byte> piece = TRY(fetch_(offset, want));
      if (piece.size() != want)
        return fail(Code::kCorrupt, "the owner's pack is cut short at {}", offset + piece.size());
      TRY(write_at(fd_.get(), offset, piece, path_));
      offset += want;
    }
    return {};
  }

  Result<void> get(const PackSegment& segment) {
    const std::string digest = to_hex(segment.sha256);
    if (have_.contains(digest)) return {};
    if (TRY(free_disk_bytes(path_)) < segment.bytes + kSpareBytes)
      return fail(Code::kLimit, "{}: no room for {} of {} bytes", path_.string(), describe(segment), segment.bytes);
    TRY(get(segment.offset, segment.bytes));
    const MappedFile file = TRY(MappedFile::open(path_));
    Sha256 hash;
    hash.update(file.bytes().subspan(segment.offset, segment.bytes));
    if (hash.hex() != digest)
      return fail(Code::kCorrupt, "{} of {}: not what the manifest says", describe(segment), path_.string());
    TRY(flush(path_));
    have_.insert(digest);
    std::string text;
    for (const std::string& each : have_) text += each + "\n";
    return write_file_atomically(list(), std::as_bytes(std::span(text)), 0600);
  }

  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  PartFile(Descriptor fd, fs::path path, const FetchPack& fetch)
      : fd_(std::move(fd)), path_(std::move(path)), fetch_(fetch) {}
  [[nodiscard]] fs::path list() const { return path_.string() + ".have"; }

  Descriptor fd_;
  fs::path path_;
  const FetchPack& fetch_;
  std::set<std::string> have_;
};

bool needed(const PackSegment& segment, LayerRange layers) {
  switch (segment.kind) {
    case SegmentKind::kText:
    case SegmentKind::kRope:
      return true;
    case SegmentKind::kLayer:
    case SegmentKind::kExpert:
      return segment.layer >= layers.first && segment.layer < layers.end;
    case SegmentKind::kEmbedding:
    case SegmentKind::kHead:
      return false;
  }
  return true;
}

}  // namespace

Result<Checkpoint> open_pack_part(const fs::path& folder, const Assign& assignment, const FetchPack& fetch) {
  if (assignment.pack_bytes < kPackHeaderBytes)
    return fail(Code::kMalformed, "a pack of {} bytes", assignment.pack_bytes);
  PartFile part = TRY(PartFile::open(folder, assignment, fetch));
  TRY(part.get(0, kPackHeaderBytes));
  {
    const MappedFile file = TRY(MappedFile::open(part.path()));
    const PackHeader header = TRY(parse_pack_header(file.bytes()));
    if (header.source_sha256 != assignment.model)
      return fail(Code::kCorrupt, "{}: the owner's pack is of another model", part.path().string());
    TRY(part.get(header.manifest_offset, header.manifest_bytes));
  }
  const MappedFile file = TRY(MappedFile::open(part.path()));
  const Pack pack = TRY(parse_pack(file.bytes()));
  for (const PackSegment& segment : pack.manifest.segments)
    if (needed(segment, assignment.layers)) TRY(part.get(segment));
  return open_pack(TRY(MappedFile::open(part.path())));
}

}  // namespace hearth::cluster
