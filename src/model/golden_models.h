// The tiny models of tests/data/families, for tests.
#pragma once

#include <fcntl.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/file_io.h"
#include "model/checkpoint.h"
#include "model/decoder.h"
#include "model/pack_import.h"

namespace hearth {

inline const std::filesystem::path kGoldenFolder = std::filesystem::path(HEARTH_TEST_DATA) / "families";

inline std::string golden_text(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Message of an error, "" for success: so that a failed assertion shows it.
template <typename T>
std::string message(const Result<T>& result) {
  return result ? "" : result.error().message;
}

// The checkpoint with every matrix whose rows are whole blocks encoded as `type`; `original` and `memory` keep what it points to.
inline Checkpoint encoded(const Checkpoint& original, const TypeInfo& type,
                          std::vector<std::vector<std::byte>>& memory) {
  Checkpoint::Parts parts;
  parts.kind = original.kind();
  parts.metadata = original.metadata();
  parts.config = original.config();
  for (TensorRef tensor : original.tensors()) {
    const uint64_t length = tensor.row_length();
    const auto from = row_bytes(info(tensor.type), length), to = row_bytes(type, length);
    if (tensor.n_dims >= 2 && to && tensor.name.find("conv.conv") == std::string::npos) {
      std::vector<float> values(length);
      memory.emplace_back(tensor.rows() * *to);
      for (uint64_t row = 0; row < tensor.rows(); ++row) {
        info(tensor.type).decode(tensor.data.data() + row * *from, values.data(), static_cast<int64_t>(length));
        type.encode(values.data(), memory.back().data() + row * *to, static_cast<int64_t>(length));
      }
      tensor.type = type.type;
      tensor.data = memory.back();
    }
    parts.tensors.push_back(std::move(tensor));
  }
  return Checkpoint::create(original.path(), std::move(parts)).value();
}

// The checkpoint with layers from `first` on that add nothing to the stream.
inline Checkpoint with_idle_layers(const Checkpoint& original, int first, std::vector<std::vector<std::byte>>& memory) {
  Checkpoint::Parts parts;
  parts.kind = original.kind();
  parts.metadata = original.metadata();
  parts.config = original.config();
  for (TensorRef tensor : original.tensors()) {
    const bool writes =
        tensor.name.find("attn_output") != std::string::npos || tensor.name.find("ffn_down") != std::string::npos;
    if (writes && layer_of(tensor.name) >= first) {
      memory.emplace_back(tensor.data.size());
      tensor.data = memory.back();
    }
    parts.tensors.push_back(std::move(tensor));
  }
  return Checkpoint::create(original.path(), std::move(parts)).value();
}

// Every matrix of I8 as what it is without its low codes.
inline Checkpoint without_low_codes(const Checkpoint& original, std::vector<std::vector<std::byte>>& memory) {
  const TypeInfo &nested = info(Type::kI8), &high = info(Type::kI4H);
  Checkpoint::Parts parts;
  parts.kind = original.kind();
  parts.metadata = original.metadata();
  parts.config = original.config();
  RowCodes codes;
  for (TensorRef tensor : original.tensors()) {
    if (tensor.type == Type::kI8) {
      const uint64_t length = tensor.row_length();
      const uint64_t from = *row_bytes(nested, length), to = *row_bytes(high, length);
      memory.emplace_back(tensor.rows() * to);
      for (uint64_t row = 0; row < tensor.rows(); ++row) {
        nested.split(tensor.data.data() + row * from, static_cast<int64_t>(length), codes);
        for (uint8_t& code : codes.codes) code >>= 4;
        high.join(codes, static_cast<int64_t>(length), memory.back().data() + row * to);
      }
      tensor.type = Type::kI4H;
      tensor.data = memory.back();
    }
    parts.tensors.push_back(std::move(tensor));
  }
  return Checkpoint::create(original.path(), std::move(parts)).value();
}

inline Result<void> write_pack(const Checkpoint& checkpoint, const std::filesystem::path& path, int n_threads) {
  const auto backend = create_backend("cpu", {.n_threads = 1, .isa = ""}).value();
  PackPlan plan = TRY(PackPlan::create(checkpoint, *backend, Digest{}));
  const Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  return plan.write(fd.get(), path, n_threads, {});
}

struct LoadedModel {
  Checkpoint checkpoint;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Decoder> decoder;
};

inline Result<LoadedModel> load_golden(const std::filesystem::path& path, std::string_view backend_name, int context,
                                       int n_threads = 1) {
  LoadedModel loaded;
  loaded.checkpoint = TRY(open_checkpoint(path));
  loaded.backend = TRY(create_backend(backend_name, {.n_threads = n_threads, .isa = ""}));
  loaded.decoder =
      TRY(Decoder::load(loaded.checkpoint, *loaded.backend, {.context = context, .rows_max = 0, .progress = {}}));
  return loaded;
}

}  // namespace hearth
