// LoRA adapters (Hu et al. 2021): W x becomes W x + alpha / rank * B (A x), for the sequences that ask for it.
//
// The file is a GGUF as llama.cpp's converter writes it: general.type "adapter", adapter.type "lora", adapter.lora.alpha, and for a
// tensor NAME of the model the pair NAME.lora_a [rank][in] and NAME.lora_b [out][rank].
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "model/checkpoint.h"

namespace hearth {

class Decoder;

// What of a layer an adapter can change.
enum class Adapted : uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr size_t kAdaptedKinds = 7;

// B holds the factor alpha / rank already. Both null where the adapter changes nothing.
struct LowRank {
  std::unique_ptr<Weight> a, b;
};

// Read-only: any thread. It holds only for the decoder it was loaded for, which outlives it.
class Adapter {
 public:
  // `checkpoint`: that of the decoder. `backend`: of the decoder's kind, and not one that an engine drives at the time; not needed
  // afterwards. kUnsupported names a tensor that cannot be adapted, kMalformed one with a wrong shape, kLimit a rank over
  // DecoderOptions::adapter_rank_max.
  static Result<std::shared_ptr<const Adapter>> load(const std::filesystem::path& path, const Checkpoint& checkpoint,
                                                     const Decoder& decoder, Backend& backend);

  [[nodiscard]] bool fits(const Decoder& decoder) const { return decoder_ == &decoder; }
  // Null: nothing there.
  [[nodiscard]] const LowRank* find(int layer, Adapted kind) const {
    const LowRank& low = layers_[static_cast<size_t>(layer)][static_cast<size_t>(kind)];
    return low.a ? &low : nullptr;
  }
  [[nodiscard]] bool changes_feed_forward(int layer) const {
    return find(layer, Adapted::kGate) || find(layer, Adapted::kUp) || find(layer, Adapted::kDown);
  }
  [[nodiscard]] int rank() const { return rank_; }  // the largest
  [[nodiscard]] int64_t memory_bytes() const { return memory_bytes_; }

 private:
  friend class AdapterLoader;
  Adapter() = default;
  const Decoder* decoder_ = nullptr;
  std::vector<std::array<LowRank, kAdaptedKinds>> layers_;
  int rank_ = 0;
  int64_t memory_bytes_ = 0;
};

}  // namespace hearth
