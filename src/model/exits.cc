#include "model/exits.h"

#include <algorithm>
#include <cmath>

#include "model/decoder.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "model/pack.h"

namespace hearth {
namespace {

constexpr std::string_view kKind = "hearth-exits";
constexpr uint32_t kVersion = 1;

std::string tensor_name(int layers, std::string_view what) { return fmt::format("exit.{}.{}", layers, what); }

// Blocks of a change are of one size throughout, since what stays as it is was taken out of it: 8 bits do.
Type change_type(int64_t d_model) { return d_model % 32 == 0 ? Type::kQ8_0 : Type::kF32; }

Result<std::vector<float>> floats_of(const Checkpoint& file, const std::string& name, uint64_t cols, uint64_t rows) {
  const TensorRef* tensor = file.find_tensor(name);
  if (!tensor || tensor->shape[0] != cols || tensor->rows() != rows)
    return fail(Code::kMalformed, "tensor '{}' is {}, want {} x {}", name, tensor ? shape_text(*tensor) : "missing",
                cols, rows);
  std::vector<float> values(tensor->elements());
  info(tensor->type).decode(tensor->data.data(), values.data(), static_cast<int64_t>(values.size()));
  if (!std::ranges::all_of(values, [](float v) { return std::isfinite(v); }))
    return fail(Code::kMalformed, "tensor '{}' holds what is no number", name);
  return values;
}

Result<std::vector<ExitBound>> bounds_of(const Metadata& metadata) {
  const auto column = [&](std::string_view name) {
    return metadata.require<std::vector<float>>(fmt::format("exits.bound.{}", name));
  };
  const auto bound = TRY(column("kld_max")), layers = TRY(column("layers")), threshold = TRY(column("threshold")),
             mean = TRY(column("mean_kld")), top = TRY(column("same_top")), exited = TRY(column("exited")),
             saved = TRY(column("saved"));
  std::vector<ExitBound> bounds(bound.size());
  for (const auto* each : {&layers, &threshold, &mean, &top, &exited, &saved})
    if (each->size() != bound.size())
      return fail(Code::kMalformed, "{} bounds have {} values", bound.size(), each->size());
  for (size_t i = 0; i < bounds.size(); ++i) {
    for (const auto* each : {&bound, &threshold, &mean, &top, &exited, &saved})
      if (!std::isfinite((*each)[i])) return fail(Code::kMalformed, "bound {} of {} is no number", i, bounds.size());
    if (!(layers[i] >= 1 && layers[i] < 1e6f)) return fail(Code::kMalformed, "an exit after {} layers", layers[i]);
    bounds[i] = {bound[i], static_cast<int>(layers[i]), threshold[i], mean[i], top[i], exited[i], saved[i]};
  }
  return bounds;
}

Result<ExitFile> parse(const Checkpoint& file, const Decoder& decoder) {
  const auto text = [&](std::string_view key) { return file.metadata().find<std::string>(key).value_or(""); };
  if (text("general.type") != kKind || file.metadata().find<uint32_t>("exits.version").value_or(0) != kVersion)
    return fail(Code::kUnsupported, "it has no exit heads of version {} (general.type '{}')", kVersion,
                text("general.type"));
  ExitFile out{.model = text("exits.model"),
               .precision = text("exits.precision"),
               .kv_type = text("exits.kv_type"),
               .maps = {},
               .bounds = {}};
  out.bounds = TRY(bounds_of(file.metadata()));
  const auto d = static_cast<uint64_t>(decoder.config().d_model);
  const auto tops = TRY(file.metadata().require<std::vector<float>>("exits.same_top"));
  for (const int32_t layers : TRY(file.metadata().require<std::vector<int32_t>>("exits.layers"))) {
    const bool in_order = out.maps.empty() || layers > out.maps.back().layers;
    if (layers < 1 || layers >= decoder.config().n_layers() || !in_order)
      return fail(Code::kMalformed, "an exit after {} of {} layers", layers, decoder.config().n_layers());
    if (out.maps.size() >= tops.size())
      return fail(Code::kMalformed, "{} exits or more have {} shares", tops.size() + 1, tops.size());
    // Apart: gcc 12 does not destroy the members of a list that TRY leaves halfway.
    ExitMap map{.layers = layers, .change = {}, .bias = {}, .doubt = {}, .same_top = tops[out.maps.size()]};
    map.change = TRY(floats_of(file, tensor_name(layers, "change"), d, d));
    map.bias = TRY(floats_of(file, tensor_name(layers, "bias"), d, 1));
    map.doubt = TRY(floats_of(file, tensor_name(layers, "doubt"), d + 1, 1));
    out.maps.push_back(std::move(map));
  }
  for (const ExitBound& bound : out.bounds)
    if (std::ranges::find(out.maps, bound.layers, &ExitMap::layers) == out.maps.end())
      return fail(Code::kMalformed, "a bound is for an exit after {} layers, which is not there", bound.layers);
  return out;
}

}  // namespace

Result<ExitBound> ExitFile::choose(double kld) const {
  const ExitBound* best = nullptr;
  const ExitBound* most = nullptr;                                  // that would be saved within it
  const auto limit = static_cast<double>(static_cast<float>(kld));  // bounds were floats on disk
  for (const ExitBound& each : bounds) {
    if (static_cast<double>(static_cast<float>(each.bound)) > limit || each.mean_kld > limit) continue;
    if (!most || each.saved > most->saved) most = &each;
    if (each.saved >= kExitGainMin && (!best || each.saved > best->saved)) best = &each;
  }
  if (best) return *best;
  return fail(Code::kUnsupported,
              "early exit within a divergence of {:g} is not useful for this model: {}, and {:.0f} % are the least "
              "that is worth another answer "
              "(hearth exits show)",
              kld,
              most ? fmt::format("{:.1f} % of the weights' bytes are saved at a divergence of {:.4f}",
                                 100 * most->saved, most->mean_kld)
                   : std::string("no exit keeps to that bound"),
              100 * kExitGainMin);
}

Result<std::string> exits_bound_to(const Checkpoint& checkpoint) {
  if (!checkpoint.packed())
    return fail(Code::kUnsupported,
                "exit heads belong to a pack, and this model has none (--no-cache, or a full disk)");
  return to_hex(TRY(pack_identity(checkpoint.files().front().bytes())));
}

Result<void> check_can_exit(const Decoder& decoder, KvType kv_type) {
  if (std::ranges::any_of(decoder.config().layers, [](const auto& layer) { return layer.mixer != Mixer::kAttention; }))
    return fail(Code::kUnsupported, "the model has recurrent layers, which a token cannot leave out");
  if (kv_type == KvType::kI4)
    return fail(Code::kUnsupported, "early exit needs --kv-type f16 or i8: i4 is written eight positions at a time");
  return {};
}

Result<void> write_exits(const ExitFile& file, int64_t d_model, const std::filesystem::path& path) {
  GgufWriter writer;
  writer.set("general.type", kKind);
  writer.set("exits.version", kVersion);
  writer.set("exits.model", file.model);
  writer.set("exits.precision", file.precision);
  writer.set("exits.kv_type", file.kv_type);
  const auto column = [&](std::string_view name, auto value) {
    std::vector<float> values;
    for (const ExitBound& bound : file.bounds) values.push_back(static_cast<float>(value(bound)));
    writer.set(fmt::format("exits.bound.{}", name), std::span<const float>(values));
  };
  column("kld_max", [](const ExitBound& b) { return b.bound; });
  column("layers", [](const ExitBound& b) { return b.layers; });
  column("threshold", [](const ExitBound& b) { return b.threshold; });
  column("mean_kld", [](const ExitBound& b) { return b.mean_kld; });
  column("same_top", [](const ExitBound& b) { return b.same_top; });
  column("exited", [](const ExitBound& b) { return b.exited; });
  column("saved", [](const ExitBound& b) { return b.saved; });
  std::vector<int32_t> layers;
  std::vector<std::vector<std::byte>> encoded;
  encoded.reserve(file.maps.size());
  const TypeInfo& type = info(change_type(d_model));
  const auto d = static_cast<uint64_t>(d_model);
  const std::array square{d, d};
  const std::array row{d}, doubt_row{d + 1};
  for (const ExitMap& map : file.maps) {
    layers.push_back(map.layers);
    encoded.emplace_back(d * row_bytes(type, d).value_or(0));
    type.encode(map.change.data(), encoded.back().data(), static_cast<int64_t>(d * d));
    writer.add_tensor(tensor_name(map.layers, "change"), type.type, square, encoded.back());
    writer.add_tensor(tensor_name(map.layers, "bias"), Type::kF32, row, std::as_bytes(std::span(map.bias)));
    writer.add_tensor(tensor_name(map.layers, "doubt"), Type::kF32, doubt_row, std::as_bytes(std::span(map.doubt)));
  }
  std::vector<float> tops;
  for (const ExitMap& map : file.maps) tops.push_back(map.same_top);
  writer.set("exits.same_top", std::span<const float>(tops));
  writer.set("exits.layers", std::span<const int32_t>(layers));
  return writer.write(path);
}

Result<ExitFile> read_exits(const std::filesystem::path& path, const Checkpoint& checkpoint, const Decoder& decoder,
                            KvType kv_type) {
  const auto file = open_checkpoint(path);
  if (!file && file.error().code == Code::kNotFound)
    return fail(Code::kNotFound, "{}: no exit heads there; hearth exits fit MODEL --text FILE makes them",
                path.string());
  if (!file) return std::unexpected(file.error());
  auto read = parse(*file, decoder);
  if (!read) return within(path.string(), read.error());
  if (read->model != TRY(exits_bound_to(checkpoint)) || read->precision != decoder.precision() ||
      read->kv_type != name(kv_type))
    return fail(
        Code::kUnsupported,
        "{}: its exit heads were fitted for {} at precision {} with {} keys and values, this is {} at {} with {}; "
        "hearth exits fit makes others",
        path.string(), read->model == TRY(exits_bound_to(checkpoint)) ? "this model" : "another model", read->precision,
        read->kv_type, checkpoint.path().filename().string(), decoder.precision(), name(kv_type));
  return read;
}

const ExitHead* ExitHeads::after(int layers) const {
  const auto found = std::ranges::find(heads_, layers, &ExitHead::layers);
  return found == heads_.end() ? nullptr : &*found;
}

Result<std::unique_ptr<ExitHeads>> ExitHeads::create(const ExitFile& file, const Decoder& decoder, Backend& backend) {
  const int64_t d = decoder.config().d_model, rows = decoder.rows_max();
  std::unique_ptr<ExitHeads> out(new ExitHeads());
  const auto buffer = [&](std::span<const float> values) -> Result<std::unique_ptr<Buffer>> {
    auto made = TRY(backend.allocate(static_cast<int64_t>(values.size_bytes())));
    backend.upload(*made, 0, std::as_bytes(values));
    return made;
  };
  const auto matrix = [&](Type type, int64_t n, std::span<const float> values) -> Result<std::unique_ptr<Weight>> {
    const auto bytes = row_bytes(info(type), static_cast<uint64_t>(d)).value_or(0);
    std::vector<std::byte> encoded(static_cast<size_t>(n) * bytes);
    info(type).encode(values.data(), encoded.data(), n * d);
    return backend.load({.type = type, .rows = n, .cols = d, .data = {encoded}, .consumed = {}});
  };
  for (const ExitMap& map : file.maps) {
    ExitHead head{.layers = map.layers,
                  .change = TRY(matrix(change_type(d), d, map.change)),
                  .doubt = {},
                  .bias = TRY(buffer(map.bias)),
                  .doubt_bias = {}};
    if (!map.doubt.empty()) {
      head.doubt = TRY(matrix(Type::kF32, 1, std::span(map.doubt).first(static_cast<size_t>(d))));
      head.doubt_bias = TRY(buffer(std::span(map.doubt).last(1)));
      out->bytes_ += head.doubt->bytes();
    }
    out->bytes_ += head.change->bytes();
    out->heads_.push_back(std::move(head));
  }
  out->hidden_ = TRY(backend.allocate(4 * rows * d));
  out->doubts_ = TRY(backend.allocate(4 * rows));
  out->bytes_ += 4 * rows * (d + 1);
  return out;
}

}  // namespace hearth
