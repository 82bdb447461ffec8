// A compressed model as a file.
#pragma once

#include <filesystem>

#include "compress/quantize.h"
#include "model/pack.h"

namespace hearth::compress {

// A pack of these tensors with the source's settings and text. `source`: the digest of what it was made from.
Result<void> write_pack(const SourceModel& source, const EncodedTensors& tensors, const Digest& source_digest,
                        Backend& backend, int n_threads, const std::filesystem::path& path);
// A GGUF likewise, tensors in the source's order. kUnsupported unless the source is a GGUF whose matrices are apart as its family
// has them, or a type is none of GGUF's.
Result<void> write_gguf(const SourceModel& source, const EncodedTensors& tensors, const std::filesystem::path& path);

// How large the file will be in which matrices have the types of the plan and all else is as in the source.
Result<uint64_t> file_bytes(const SourceModel& source, const TypePlan& plan, bool gguf, Backend& backend);

}  // namespace hearth::compress
