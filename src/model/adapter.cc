#include "model/adapter.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "model/arch/all.h"
#include "model/decoder.h"

namespace hearth {
namespace {

constexpr std::array<std::string_view, kAdaptedKinds> kNames{"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                             "ffn_gate", "ffn_up", "ffn_down"};

struct Place {
  int layer = 0;
  Adapted kind{};
};

// "blk.3.attn_q.weight" -> layer 3, kQ
std::optional<Place> place_of(std::string_view name) {
  Place place;
  if (!name.starts_with("blk.")) return std::nullopt;
  const auto [end, error] = std::from_chars(name.data() + 4, name.data() + name.size(), place.layer);
  if (error != std::errc() || place.layer < 0) return std::nullopt;
  const std::string_view rest(end, static_cast<size_t>(name.data() + name.size() - end));
  for (size_t i = 0; i < kNames.size(); ++i) {
    place.kind = static_cast<Adapted>(i);
    if (rest == fmt::format(".{}.weight", kNames[i])) return place;
  }
  return std::nullopt;
}

// Rows and columns of the matrix at a place.
std::pair<int64_t, int64_t> shape_of(const DecoderConfig& config, const Place& place) {
  const LayerConfig& layer = config.layers[static_cast<size_t>(place.layer)];
  const int64_t d = config.d_model, q = int64_t{layer.n_heads} * layer.head_dim,
                kv = int64_t{layer.n_kv_heads} * layer.head_dim;
  switch (place.kind) {
    case Adapted::kQ:
      return {q, d};
    case Adapted::kK:
    case Adapted::kV:
      return {kv, d};
    case Adapted::kO:
      return {d, q};
    case Adapted::kDown:
      return {d, layer.d_ffn};
    default:
      return {layer.d_ffn, d};
  }
}

}  // namespace

class AdapterLoader {
 public:
  AdapterLoader(const Checkpoint& file, const Decoder& decoder, Backend& backend)
      : file_(file), decoder_(decoder), backend_(backend) {}

  Result<std::shared_ptr<const Adapter>> load() {
    std::shared_ptr<Adapter> adapter(new Adapter());
    adapter->decoder_ = &decoder_;
    adapter->layers_.resize(decoder_.config().layers.size());
    alpha_ = TRY(file_.metadata().require<float>("adapter.lora.alpha"));
    constexpr std::string_view kA = ".lora_a", kB = ".lora_b";
    for (const TensorRef& a : file_.tensors()) {
      const std::string_view name = a.name;
      if (name.ends_with(kB) && file_.find_tensor(fmt::format("{}{}", name.substr(0, name.size() - kB.size()), kA)))
        continue;
      const std::string base(name.substr(0, name.size() - std::min(name.size(), kA.size())));
      const TensorRef* b = name.ends_with(kA) ? file_.find_tensor(base + std::string(kB)) : nullptr;
      if (!b) return fail(Code::kMalformed, "tensor '{}' has no partner; .lora_a and .lora_b come in pairs", name);
      const auto place = place_of(base);
      if (!place || place->layer >= decoder_.config().n_layers())
        return fail(Code::kUnsupported, "tensor '{}': what it changes is not there or cannot be adapted", name);
      LowRank& low = adapter->layers_[static_cast<size_t>(place->layer)][static_cast<size_t>(place->kind)];
      TRY(read(*place, a, *b, low));
      adapter->rank_ = std::max(adapter->rank_, static_cast<int>(a.shape[1]));
      adapter->memory_bytes_ += low.a->bytes() + low.b->bytes();
    }
    if (adapter->rank_ == 0) return fail(Code::kMalformed, "an adapter without tensors");
    return adapter;
  }

 private:
  Result<void> read(const Place& place, const TensorRef& a, const TensorRef& b, LowRank& low) {
    const LayerConfig& layer = decoder_.config().layers[static_cast<size_t>(place.layer)];
    const bool of_experts = layer.n_experts > 0 && place.kind >= Adapted::kGate;
    if (of_experts || layer.mixer != Mixer::kAttention)
      return fail(Code::kUnsupported, "tensor '{}': experts and convolutions cannot be adapted", a.name);
    const auto [rows, cols] = shape_of(decoder_.config(), place);
    const uint64_t rank = a.shape[1];
    if (rank == 0 || rank > static_cast<uint64_t>(decoder_.adapter_rank_max()))
      return fail(Code::kLimit, "tensor '{}': rank {}, the model was loaded for adapters of a rank up to {}", a.name,
                  rank, decoder_.adapter_rank_max());
    const bool fits = a.shape[0] == static_cast<uint64_t>(cols) && a.rows() == rank && b.shape[0] == rank &&
                      b.rows() == static_cast<uint64_t>(rows);
    if (!fits)
      return fail(Code::kMalformed, "tensor '{}' has the shape {} and its partner {}, a matrix of {} x {} is adapted",
                  a.name, shape_text(a), shape_text(b), cols, rows);
    low.a = TRY(matrix(a, 1.0f));
    low.b = TRY(matrix(b, alpha_ / static_cast<float>(rank)));
    return {};
  }

  Result<std::unique_ptr<Weight>> matrix(const TensorRef& tensor, float scale) {
    std::vector<float> values(tensor.elements());
    info(tensor.type).decode(tensor.data.data(), values.data(), static_cast<int64_t>(values.size()));
    for (float& value : values) value *= scale;
    return backend_.load({.type = Type::kF32,
                          .rows = static_cast<int64_t>(tensor.rows()),
                          .cols = static_cast<int64_t>(tensor.row_length()),
                          .data = {std::as_bytes(std::span(values))},
                          .consumed = {}});
  }

  const Checkpoint& file_;
  const Decoder& decoder_;
  Backend& backend_;
  float alpha_ = 0;
};

Result<std::shared_ptr<const Adapter>> Adapter::load(const std::filesystem::path& path, const Checkpoint& checkpoint,
                                                     const Decoder& decoder, Backend& backend) {
  const Checkpoint file = TRY(open_checkpoint(path));
  const auto text = [&](std::string_view key) { return file.metadata().find<std::string>(key).value_or(""); };
  if (text("general.type") != "adapter" || text("adapter.type") != "lora")
    return fail(Code::kUnsupported, "{}: is no LoRA adapter (general.type '{}', adapter.type '{}')", path.string(),
                text("general.type"), text("adapter.type"));
  const ModelKeys keys(checkpoint);
  // Converters reorder rows of queries and keys for GGUF; a model in another form has them in another order.
  if (keys.hugging_face() || keys.architecture() != text("general.architecture"))
    return fail(Code::kUnsupported, "{}: an adapter for a GGUF model of the family '{}', this model is {} of '{}'",
                path.string(), text("general.architecture"), keys.hugging_face() ? "safetensors" : "GGUF",
                keys.architecture());
  auto adapter = AdapterLoader(file, decoder, backend).load();
  if (!adapter) return within(path.string(), adapter.error());
  return adapter;
}

}  // namespace hearth
