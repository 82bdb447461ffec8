// Any bytes as the manifest of a pack whose digests are right, and as they are: what is accepted lies where it says.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "model/pack.h"
#include "store/sha256.h"

namespace {

// A file of 1 MiB with this manifest behind the header, as someone who knows the format would make it.
std::vector<std::byte> with_digests(std::span<const std::byte> manifest) {
  std::vector<std::byte> file(1 << 20);
  hearth::Sha256 hash;
  hash.update(manifest);
  const hearth::PackHeader header{.file_bytes = file.size(),
                                  .manifest_offset = hearth::kPackHeaderBytes,
                                  .manifest_bytes = manifest.size(),
                                  .manifest_sha256 = hearth::digest_from_hex(hash.hex()).value()};
  const auto bytes = hearth::to_bytes(header);
  std::memcpy(file.data(), bytes.data(), bytes.size());
  if (!manifest.empty()) std::memcpy(file.data() + header.manifest_offset, manifest.data(), manifest.size());
  return file;
}

void check(std::span<const std::byte> file) {
  const auto pack = hearth::parse_pack(file);
  if (!pack) {
    if (pack.error().message.empty()) __builtin_trap();
    return;
  }
  for (const hearth::PackTensor& tensor : pack->manifest.tensors) {
    for (const hearth::PackPlace& place : tensor.at) {
      const hearth::PackSegment& segment = pack->manifest.segments.at(place.segment);
      const uint64_t end = place.offset + hearth::slice_bytes(tensor).value();
      if (end > segment.bytes || segment.offset + end > file.size()) __builtin_trap();
    }
  }
  const auto again = hearth::parse_pack_manifest(to_json(pack->manifest));
  if (!again || again->tensors.size() != pack->manifest.tensors.size()) __builtin_trap();
  (void)hearth::verify_segments(file, pack->manifest, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  check(bytes);
  if (size < (1 << 19)) check(with_digests(bytes));
  return 0;
}
