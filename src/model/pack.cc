#include "model/pack.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <charconv>
#include <cstring>
#include <set>

#include "base/checked.h"
#include "base/json.h"
#include "base/limits.h"
#include "model/gguf.h"
#include "store/sha256.h"
#include "tensor/type.h"

namespace hearth {
namespace {

constexpr std::string_view kMagic = "HEARTHPK";
constexpr size_t kChecksumOffset = kPackHeaderBytes - 32;

// The fields in use, in their order; the rest of the header up to its own checksum is zero.
template <typename Header, typename Field>
void each_field(Header& header, Field field) {
  field(header.layout_version, 12);
  field(header.file_bytes, 16);
  field(header.manifest_offset, 24);
  field(header.manifest_bytes, 32);
  field(header.manifest_sha256, 40);
  field(header.source_sha256, 72);
  field(header.model_version, 104);
}

Digest sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return digest_from_hex(hash.hex()).value();
}

Result<PackHeader> parse_header(std::span<const std::byte> bytes) {
  const PackHeader header = TRY(parse_pack_header(bytes));
  if (sha256(bytes.subspan(header.manifest_offset, header.manifest_bytes)) != header.manifest_sha256)
    return fail(Code::kCorrupt, "the manifest is damaged: its SHA-256 does not match");
  return header;
}

Result<void> check_segments(const PackHeader& header, const std::vector<PackSegment>& segments) {
  uint64_t end_before = header.manifest_offset + header.manifest_bytes;
  for (size_t i = 0; i < segments.size(); ++i) {
    const PackSegment& segment = segments[i];
    const Checked end = Checked(segment.offset) + segment.bytes;
    if (segment.offset % kPackSegmentAlignment != 0 || segment.offset < end_before || !end.at_most(header.file_bytes))
      return fail(
          Code::kMalformed,
          "segment {} at {} with {} bytes: not at a multiple of {}, over another, or beyond the file's {} bytes", i,
          segment.offset, segment.bytes, kPackSegmentAlignment, header.file_bytes);
    end_before = segment.offset + segment.bytes;
  }
  return {};
}

Result<void> check_text(const PackManifest& manifest) {
  if (manifest.segments.empty() || manifest.segments.front().kind != SegmentKind::kText)
    return fail(Code::kMalformed, "the first segment is not the text");
  const uint64_t bytes = manifest.segments.front().bytes;
  if (bytes > limits::kPackTextBytes)
    return fail(Code::kLimit, "a text segment of {} bytes, limit {}", bytes, limits::kPackTextBytes);
  for (const PackFile& file : manifest.text)
    if (!(Checked(file.offset) + file.bytes).at_most(bytes))
      return fail(Code::kMalformed, "the text file '{}' with {} bytes at {} ends beyond the segment's {} bytes",
                  file.name, file.bytes, file.offset, bytes);
  return {};
}

Result<void> check_tensors(const PackManifest& manifest) {
  struct Extent {
    uint64_t begin, end;
    const PackTensor* tensor;
  };
  std::vector<Extent> extents;
  for (const PackTensor& tensor : manifest.tensors) {
    const uint64_t bytes = TRY(slice_bytes(tensor));
    if (tensor.at.size() != (tensor.panels ? tensor.shape[2] : 1))
      return fail(Code::kMalformed, "tensor '{}' has {} places", tensor.name, tensor.at.size());
    for (const PackPlace& place : tensor.at) {
      if (place.segment >= manifest.segments.size() || place.offset % kPanelAlignment != 0 ||
          !(Checked(place.offset) + bytes).at_most(manifest.segments[place.segment].bytes))
        return fail(Code::kMalformed, "tensor '{}': {} bytes at {} do not lie in segment {} of {}, at a multiple of {}",
                    tensor.name, bytes, place.offset, place.segment, manifest.segments.size(), kPanelAlignment);
      const uint64_t begin = manifest.segments[place.segment].offset + place.offset;
      extents.push_back({begin, begin + bytes, &tensor});
    }
  }
  std::ranges::sort(extents, {}, &Extent::begin);
  for (size_t i = 1; i < extents.size(); ++i)
    if (extents[i].begin < extents[i - 1].end)
      return fail(Code::kMalformed, "tensors '{}' and '{}' overlap", extents[i - 1].tensor->name,
                  extents[i].tensor->name);
  return {};
}

TensorRef tensor_ref(const PackTensor& tensor, const PackManifest& manifest, std::span<const std::byte> bytes) {
  TensorRef ref{.name = tensor.name, .type = tensor.type, .shape = tensor.shape, .n_dims = tensor.n_dims};
  const uint64_t size = slice_bytes(tensor).value();
  for (const PackPlace& place : tensor.at) {
    const auto slice = bytes.subspan(manifest.segments[place.segment].offset + place.offset, size);
    if (tensor.panels)
      ref.panels.push_back(slice);
    else
      ref.data = slice;
  }
  return ref;
}

Result<Checkpoint> to_checkpoint(MappedFile file) {
  const auto bytes = file.bytes();
  const Pack pack = TRY(parse_pack(bytes));
  Checkpoint::Parts parts;
  parts.kind = pack.manifest.source;
  parts.packed = true;
  const auto text = bytes.subspan(pack.manifest.segments.front().offset, pack.manifest.segments.front().bytes);
  for (const PackFile& each : pack.manifest.text) {
    const auto content = text.subspan(each.offset, each.bytes);
    parts.text_files.emplace_back(each.name, content);
    if (parts.kind == Checkpoint::Kind::kGguf && each.name == kPackMetadataFile) {
      GgufFile metadata = TRY(parse_gguf(content));
      parts.metadata = std::move(metadata.metadata);
    } else if (parts.kind == Checkpoint::Kind::kHuggingFace && each.name == "config.json") {
      const std::string_view config(reinterpret_cast<const char*>(content.data()), content.size());
      const auto value = TRY(parse_json(config));
      if (!value.is_object()) return fail(Code::kMalformed, "{}: is no JSON object", each.name);
      parts.config = value.get_object();
    }
  }
  for (const PackTensor& tensor : pack.manifest.tensors)
    parts.tensors.push_back(tensor_ref(tensor, pack.manifest, bytes));
  const std::filesystem::path path = file.path();
  parts.files.push_back(std::move(file));
  return Checkpoint::create(path, std::move(parts));
}

}  // namespace

int layer_of(std::string_view tensor_name) {
  int layer = -1;
  if (tensor_name.starts_with("blk."))
    std::from_chars(tensor_name.data() + 4, tensor_name.data() + tensor_name.size(), layer);
  return layer;
}

std::string to_hex(const Digest& digest) {
  std::string hex;
  for (const std::byte byte : digest) hex += fmt::format("{:02x}", std::to_integer<int>(byte));
  return hex;
}

Result<Digest> digest_from_hex(std::string_view hex) {
  if (!is_sha256(hex)) return fail(Code::kMalformed, "a SHA-256 is not 64 hex digits");
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  Digest digest;
  for (size_t i = 0; i < digest.size(); ++i)
    digest[i] = static_cast<std::byte>(digit(hex[2 * i]) * 16 + digit(hex[2 * i + 1]));
  return digest;
}

std::array<std::byte, kPackHeaderBytes> to_bytes(const PackHeader& header) {
  std::array<std::byte, kPackHeaderBytes> bytes{};
  std::memcpy(bytes.data(), kMagic.data(), kMagic.size());
  std::memcpy(bytes.data() + kMagic.size(), &kPackFormatVersion, sizeof kPackFormatVersion);
  each_field(header, [&](const auto& field, size_t at) { std::memcpy(bytes.data() + at, &field, sizeof field); });
  const Digest checksum = sha256(std::span(bytes).first(kChecksumOffset));
  std::memcpy(bytes.data() + kChecksumOffset, checksum.data(), checksum.size());
  return bytes;
}

bool has_pack_magic(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

Result<uint64_t> slice_bytes(const PackTensor& tensor) {
  TensorRef ref{.name = tensor.name, .type = tensor.type, .shape = tensor.shape, .n_dims = tensor.n_dims};
  const uint64_t plain = TRY(tensor_bytes(ref));
  if (!tensor.panels) return plain;
  const Checked panels = (Checked(tensor.shape[1]) + (kPanelRows - 1)) / kPanelRows;
  const PanelFormat& format = info(tensor.type).panel;
  const auto length = static_cast<int64_t>(tensor.shape[0]);
  // Within twice the limit nothing that matrix_bytes() computes overflows.
  const Checked bytes = panels * (format.panel_bytes(length) + format.low_bytes(length));
  if (tensor.shape[3] != 1 || !bytes.at_most(limits::kFileBytes))
    return fail(Code::kLimit, "tensor '{}' of shape {} in panels", tensor.name, shape_text(ref));
  return static_cast<uint64_t>(format.matrix_bytes(static_cast<int64_t>(*panels.value()), length));
}

Result<PackHeader> parse_pack_header(std::span<const std::byte> bytes) {
  if (!has_pack_magic(bytes)) return fail(Code::kMalformed, "does not begin with '{}'", kMagic);
  if (bytes.size() < kPackHeaderBytes)
    return fail(Code::kCorrupt, "cut short: {} bytes, the header alone has {}", bytes.size(), kPackHeaderBytes);
  uint32_t version = 0;
  std::memcpy(&version, bytes.data() + kMagic.size(), sizeof version);
  if (version != kPackFormatVersion)
    return fail(Code::kUnsupported, "pack format version {}; version {} can be read", version, kPackFormatVersion);
  if (std::memcmp(sha256(bytes.first(kChecksumOffset)).data(), bytes.data() + kChecksumOffset, sizeof(Digest)) != 0)
    return fail(Code::kCorrupt, "the header is damaged: its checksum does not match");
  PackHeader header;
  each_field(header, [&](auto& field, size_t at) { std::memcpy(&field, bytes.data() + at, sizeof field); });
  if (header.layout_version != kPanelLayoutVersion)
    return fail(Code::kUnsupported, "panel layout version {}, this program's is {}; import the model again",
                header.layout_version, kPanelLayoutVersion);
  if (header.file_bytes != bytes.size())
    return fail(Code::kCorrupt, "{} bytes instead of {}: it was cut short or added to", bytes.size(),
                header.file_bytes);
  if (header.manifest_bytes > limits::kPackManifestBytes)
    return fail(Code::kLimit, "a manifest of {} bytes, limit {}", header.manifest_bytes, limits::kPackManifestBytes);
  const Checked end = Checked(header.manifest_offset) + header.manifest_bytes;
  if (header.manifest_offset < kPackHeaderBytes || !end.at_most(bytes.size()))
    return fail(Code::kMalformed, "a manifest of {} bytes at {} does not lie in the file", header.manifest_bytes,
                header.manifest_offset);
  return header;
}

Result<Digest> pack_source(std::span<const std::byte> bytes) { return TRY(parse_header(bytes)).source_sha256; }
Result<Digest> pack_identity(std::span<const std::byte> bytes) { return TRY(parse_header(bytes)).manifest_sha256; }

Result<Pack> parse_pack(std::span<const std::byte> bytes) {
  Pack pack;
  pack.header = TRY(parse_header(bytes));
  const auto text = bytes.subspan(pack.header.manifest_offset, pack.header.manifest_bytes);
  pack.manifest = TRY(parse_pack_manifest({reinterpret_cast<const char*>(text.data()), text.size()}));
  TRY(check_segments(pack.header, pack.manifest.segments));
  TRY(check_text(pack.manifest));
  TRY(check_tensors(pack.manifest));
  return pack;
}

Result<Checkpoint> open_pack(MappedFile file) {
  const std::filesystem::path path = file.path();
  file.want_large_pages();
  auto checkpoint = to_checkpoint(std::move(file));
  if (!checkpoint) return within(path.string(), std::move(checkpoint).error());
  return checkpoint;
}

Result<void> verify_segments(std::span<const std::byte> bytes, const PackManifest& manifest,
                             const std::function<bool(uint64_t)>& progress) {
  constexpr size_t kPieceBytes = 1 << 20;
  uint64_t done = 0;
  for (size_t i = 0; i < manifest.segments.size(); ++i) {
    const PackSegment& segment = manifest.segments[i];
    Sha256 hash;
    for (auto rest = bytes.subspan(segment.offset, segment.bytes); !rest.empty();) {
      const auto piece = rest.first(std::min(rest.size(), kPieceBytes));
      hash.update(piece);
      rest = rest.subspan(piece.size());
      done += piece.size();
      if (progress && !progress(done)) return fail(Code::kCancelled, "cancelled");
    }
    const std::string found = hash.hex(), want = to_hex(segment.sha256);
    if (found != want)
      return fail(Code::kCorrupt, "segment {} ({}) at {} is damaged: its SHA-256 is {} instead of {}", i,
                  describe(segment), segment.offset, found, want);
  }
  return {};
}

}  // namespace hearth
