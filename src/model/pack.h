// The pack: a model laid out once as the kernels read it, in one file that is mapped. docs/pack-format.md is the format; this
// is its only reader. Numbers are little endian.
//
//   header, 4 KiB | manifest (JSON) | segments, each at a multiple of 64 KiB: text, rope, embedding, layers, experts, head
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "model/checkpoint.h"
#include "tensor/panel.h"

namespace hearth {

inline constexpr uint32_t kPackFormatVersion = 1;
inline constexpr uint64_t kPackHeaderBytes = 4096, kPackSegmentAlignment = 64 << 10;

using Digest = std::array<std::byte, 32>;  // SHA-256
std::string to_hex(const Digest& digest);
// kMalformed unless it is 64 digits of lower-case hex.
Result<Digest> digest_from_hex(std::string_view hex);

// The fields of the header that are in use; docs/pack-format.md has the places of the others.
struct PackHeader {
  uint32_t layout_version = kPanelLayoutVersion;
  uint64_t file_bytes = 0, manifest_offset = 0, manifest_bytes = 0;
  uint64_t model_version = 0;  // grows with each version of a model; 0: not versioned
  Digest manifest_sha256{}, source_sha256{};
};
std::array<std::byte, kPackHeaderBytes> to_bytes(const PackHeader& header);

enum class SegmentKind : uint8_t { kText, kRope, kEmbedding, kLayer, kExpert, kHead };
std::string_view name(SegmentKind kind);

struct PackSegment {
  SegmentKind kind = SegmentKind::kText;
  int layer = -1, expert = -1;  // of layers and experts
  uint64_t offset = 0, bytes = 0;
  Digest sha256{};
};
// "expert 3 of layer 7"
std::string describe(const PackSegment& segment);

struct PackPlace {
  uint32_t segment = 0;
  uint64_t offset = 0;  // from the segment's beginning
};

// A matrix in panels, with a place for each slice; or floats, with one place.
struct PackTensor {
  std::string name{};
  Type type = Type::kF32;
  std::array<uint64_t, 4> shape = {1, 1, 1, 1};
  int n_dims = 1;
  bool panels = false;
  std::vector<PackPlace> at{};
};

// "blk.3.attn_q.weight" is of layer 3; -1 for what is in no layer.
int layer_of(std::string_view tensor_name);

// A file of the text segment.
struct PackFile {
  std::string name;
  uint64_t offset = 0, bytes = 0;
};
// Its name where the source is a GGUF: a GGUF without tensors, with the source's keys and values.
inline constexpr std::string_view kPackMetadataFile = "metadata.gguf";

struct PackManifest {
  std::string model;   // for people: the name of the source's file or folder
  std::string family;  // likewise
  Checkpoint::Kind source = Checkpoint::Kind::kGguf;
  std::vector<PackFile> text;
  std::vector<PackSegment> segments;
  std::vector<PackTensor> tensors;
};
std::string to_json(const PackManifest& manifest);
// Field by field within the limits; what the fields say of each other and of the file is parse_pack's.
Result<PackManifest> parse_pack_manifest(std::string_view json);

struct Pack {
  PackHeader header;
  PackManifest manifest;
};

bool has_pack_magic(std::span<const std::byte> bytes);
// Header and manifest of a whole file, nothing of it trusted: sizes, digests of both, and that each segment lies in the file,
// each tensor in its segment with the bytes that type and shape need, none over another. Segments are not read.
// kUnsupported: of another format or layout version; kCorrupt: cut short, or a digest does not match; kMalformed.
Result<Pack> parse_pack(std::span<const std::byte> bytes);
// The header alone, of a whole file's bytes; the manifest's place lies in it, what is there is not looked at.
Result<PackHeader> parse_pack_header(std::span<const std::byte> bytes);
// The digest of what a pack was made from, by its header alone.
Result<Digest> pack_source(std::span<const std::byte> bytes);
// What no other pack has: the manifest's digest, which covers those of all segments.
Result<Digest> pack_identity(std::span<const std::byte> bytes);
// Bytes of one slice of a tensor; kMalformed or kLimit if there can be no such tensor.
Result<uint64_t> slice_bytes(const PackTensor& tensor);

// The pack as a checkpoint whose matrices lie where they are mapped.
Result<Checkpoint> open_pack(MappedFile file);

// SHA-256 of every segment; kCorrupt names the first that differs. `progress` gets bytes read; false cancels.
Result<void> verify_segments(std::span<const std::byte> bytes, const PackManifest& manifest,
                             const std::function<bool(uint64_t done_bytes)>& progress);

}  // namespace hearth
