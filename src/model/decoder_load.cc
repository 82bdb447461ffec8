// Loading: from a checkpoint's tensors to the decoder's matrices and vectors, every shape checked.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/checked.h"
#include "base/limits.h"
#include "model/arch/all.h"
#include "model/decoder.h"

namespace hearth {
namespace {

// Lets go of the pages of a part of a mapped file.
void release(const Checkpoint& checkpoint, std::span<const std::byte> part) {
  for (const MappedFile& file : checkpoint.files()) {
    const auto all = file.bytes();
    if (part.data() >= all.data() && part.data() < all.data() + all.size())
      return file.release(static_cast<size_t>(part.data() - all.data()), part.size());
  }
}

}  // namespace

class DecoderLoader {
 public:
  // With `plan` what would be laid out goes there, and the decoder that load() gives is of no use.
  DecoderLoader(const Checkpoint& checkpoint, const Family& family, Backend& backend, const DecoderOptions& options,
                std::vector<PlannedTensor>* plan)
      : checkpoint_(checkpoint), family_(family), backend_(backend), options_(options), plan_(plan) {
    for (const TensorRef& tensor : checkpoint.tensors()) total_bytes_ += tensor.stored_bytes();
    used_.resize(checkpoint.tensors().size());
  }

  Result<std::unique_ptr<Decoder>> load() {
    DecoderConfig config = TRY(family_.configure(ModelKeys(checkpoint_)));
    config.family = family_.name;
    TRY(rope_factors(config));
    TRY(check(config));
    TRY(take_range(config));
    const int experts_of_model = config.n_experts_used;
    TRY(take_experts(config));
    std::unique_ptr<Decoder> decoder(new Decoder(backend_, std::move(config)));
    decoder->weights_ = options_.weights;
    decoder->experts_of_model_ = experts_of_model;
    if (!plan_) {
      TRY(set_context(*decoder));
      for (const RopeConfig& rope : decoder->config_.ropes) decoder->ropes_.emplace_back(rope, decoder->context_);
      TRY(decoder->allocate_scratch(options_.rows_max, options_.adapter_rank_max));
    }
    const DecoderConfig& c = decoder->config_;
    plus_one_ = c.norm_plus_one;
    if (!options_.layers || c.layers.empty()) TRY(ends(*decoder));
    for (int i = 0; i < c.n_layers(); ++i) decoder->layers_.push_back(TRY(layer(c, i)));
    TRY(all_used());
    decoder->weight_bytes_ = weight_bytes_;
    decoder->first_layer_ = first_layer_;
    for (int unit = 0; unit < decoder->n_units(); ++unit)
      decoder->each_matrix(unit, [&](const Weight& weight) { decoder->has_low_planes_ |= weight.has_low(); });
    if (!plan_) TRY(set_bits(*decoder));
    return decoder;
  }

 private:
  using Layer = Decoder::Layer;
  using Vector = Decoder::Vector;
  using Matrix = Decoder::Matrix;

  // Layer i of the decoder is layer first_layer_ + i of the model.
  Result<void> take_range(DecoderConfig& config) {
    if (!options_.layers) return {};
    const auto [first, end] = *options_.layers;
    if (first < 0 || end < first || end > config.n_layers())
      return fail(Code::kInvalidArgument, "layers {} to {}: the model has {}", first, end, config.n_layers());
    config.layers = {config.layers.begin() + first, config.layers.begin() + end};
    first_layer_ = first;
    return {};
  }

  Result<void> take_experts(DecoderConfig& config) const {
    const int most = config.n_experts_used;
    if (options_.experts == 0) return {};
    if (most == 0)
      return fail(Code::kInvalidArgument, "{} experts: the model is no mixture of experts", options_.experts);
    if (options_.experts < 0 || options_.experts > most)
      return fail(Code::kInvalidArgument, "{} experts for each token: this model was made for {}; use 1 to {}",
                  options_.experts, most, most);
    config.n_experts_used = options_.experts;
    return {};
  }

  Result<void> ends(Decoder& decoder) {
    const DecoderConfig& c = decoder.config_;
    decoder.embedding_ = TRY(matrix("token_embd.weight", c.n_vocab, c.d_model));
    // LFM2's GGUF calls the last norm by the first one's name.
    const bool usual_norm = find("output_norm.weight") || !find("token_embd_norm.weight");
    decoder.output_norm_ = TRY(norm(usual_norm ? "output_norm.weight" : "token_embd_norm.weight", c.d_model));
    if (TRY(has_head())) decoder.head_ = TRY(matrix("output.weight", c.n_vocab, c.d_model));
    return {};
  }

  Result<void> set_context(Decoder& decoder) const {
    constexpr int kDefaultContext = 4096;
    const int most = decoder.config_.context_max;
    if (options_.context < 0 || options_.context > most)
      return fail(Code::kInvalidArgument, "context {}: this model was made for at most {} positions", options_.context,
                  most);
    decoder.context_ = options_.context > 0 ? options_.context : std::min(kDefaultContext, most);
    return {};
  }

  Result<void> set_bits(Decoder& decoder) const {
    if (options_.bits != 4 && options_.bits != 8)
      return fail(Code::kInvalidArgument, "precision {}: it is 8 or 4 bits", options_.bits);
    if (options_.bits == 4 && !decoder.has_low_planes())
      return fail(Code::kInvalidArgument,
                  "precision 4: the model has no low planes that could be left out; only matrices "
                  "of type I8 do (make them with `hearth quantize --type i8`)");
    decoder.bits_.assign(static_cast<size_t>(decoder.n_units()), 8);
    for (int unit = 0; unit < decoder.n_units(); ++unit) decoder.set_bits(unit, options_.bits);
    return {};
  }

  // What is found counts as used.
  const TensorRef* find(std::string_view gguf_name) {
    const TensorRef* tensor = checkpoint_.find_tensor(tensor_name(family_, checkpoint_, gguf_name));
    if (tensor) used_[static_cast<size_t>(tensor - checkpoint_.tensors().data())] = true;
    return tensor;
  }

  // Without a head of its own a model uses the embedding; config.json may say which it has.
  Result<bool> has_head() {
    const bool found = find("output.weight") != nullptr;
    const bool tied = TRY(ModelKeys(checkpoint_).bool_or("", "tie_word_embeddings", !found));
    if (!tied && !found) TRY(require("output.weight"));
    return !tied;
  }

  // A tensor of a layer that nothing reads would mean wrong answers. (Llama's first files stored rope's frequencies.)
  Result<void> all_used() const {
    if (options_.layers) return {};
    for (size_t i = 0; i < used_.size(); ++i) {
      const std::string_view name = checkpoint_.tensors()[i].name;
      const bool of_layer = name.starts_with("blk.") || name.starts_with("model.layers.");
      if (of_layer && !used_[i] && !name.ends_with("rotary_emb.inv_freq"))
        return fail(Code::kUnsupported, "tensor '{}' has no place in the family '{}' with these settings", name,
                    family_.name);
    }
    return {};
  }

  Result<const TensorRef*> require(std::string_view gguf_name) {
    if (const TensorRef* tensor = find(gguf_name)) return tensor;
    return fail(Code::kMalformed, "the model has no tensor '{}'", tensor_name(family_, checkpoint_, gguf_name));
  }

  void loaded(const TensorRef& tensor) {
    done_bytes_ += tensor.stored_bytes();
    if (!plan_) release(checkpoint_, tensor.data);
    // Where memory counts, what the kernel mapped around it goes, too.
    if (options_.weights)
      for (const MappedFile& file : checkpoint_.files()) file.release(0, file.bytes().size());
    if (options_.progress) options_.progress(done_bytes_, total_bytes_);
  }

  static Result<void> expect(const TensorRef& tensor, int64_t cols, int64_t rows, int64_t slices = 1) {
    const bool fits = tensor.shape[0] == static_cast<uint64_t>(cols) &&
                      tensor.shape[1] == static_cast<uint64_t>(rows) &&
                      tensor.shape[2] == static_cast<uint64_t>(slices) && tensor.shape[3] == 1;
    if (fits) return {};
    return fail(Code::kMalformed, "tensor '{}' has the shape {}, the model's settings want {} x {}{}", tensor.name,
                shape_text(tensor), cols, rows, slices > 1 ? fmt::format(" x {}", slices) : "");
  }

  // `tensor`: where it comes from, or the first of several.
  Result<Matrix> lay_out(std::string_view gguf_name, const TensorRef& tensor, WeightSource source) {
    if (!source.panels)
      source.consumed = [checkpoint = &checkpoint_](std::span<const std::byte> part) { release(*checkpoint, part); };
    source.name = gguf_name;
    if (plan_) {
      PlannedTensor planned{.name = std::string(gguf_name), .n_dims = source.slices > 1 ? 3 : 2};
      planned.shape = {static_cast<uint64_t>(source.cols), static_cast<uint64_t>(source.rows),
                       static_cast<uint64_t>(source.slices), 1};
      planned.matrix = std::move(source);
      plan_->push_back(std::move(planned));
      return Matrix();
    }
    auto weight = backend_.load(source);
    if (!weight) return within(tensor.name, weight.error());
    weight_bytes_ += (*weight)->bytes();
    return weight;
  }

  Result<Matrix> matrix(std::string_view gguf_name, int64_t rows, int64_t cols, int slices = 1) {
    const TensorRef* tensor = TRY(require(gguf_name));
    TRY(expect(*tensor, cols, rows, slices));
    WeightSource source{.type = tensor->type,
                        .rows = rows,
                        .cols = cols,
                        .slices = slices,
                        .data = tensor->panels,
                        .panels = !tensor->panels.empty(),
                        .consumed = {}};
    const size_t bytes = tensor->data.size() / static_cast<size_t>(slices);
    for (size_t i = 0; !source.panels && i < static_cast<size_t>(slices); ++i)
      source.data.push_back(tensor->data.subspan(i * bytes, bytes));
    Matrix weight = TRY(lay_out(gguf_name, *tensor, std::move(source)));
    if (options_.weights && weight) options_.weights->attach(*weight, tensor->panels);
    loaded(*tensor);
    return weight;
  }

  // The pieces of `rows` rows that a tensor of a file consists of.
  static Result<std::vector<std::span<const std::byte>>> pieces(const TensorRef& tensor, int64_t rows) {
    const auto row = row_bytes(info(tensor.type), tensor.row_length());
    if (!row || tensor.data.empty())
      return fail(Code::kMalformed, "tensor '{}': rows of {} elements of {} cannot be taken apart", tensor.name,
                  tensor.row_length(), info(tensor.type).name);
    const size_t bytes = static_cast<size_t>(rows) * *row;
    std::vector<std::span<const std::byte>> all;
    for (size_t at = 0; at + bytes <= tensor.data.size(); at += bytes) all.push_back(tensor.data.subspan(at, bytes));
    return all;
  }

  // Rows [first, first + rows) of a matrix that holds several (phi3's q, k and v).
  Result<Matrix> part(std::string_view gguf_name, std::string_view whole, int64_t first, int64_t rows, int64_t all_rows,
                      int64_t cols) {
    const TensorRef* tensor = TRY(require(whole));
    TRY(expect(*tensor, cols, all_rows));
    const auto all = TRY(pieces(*tensor, all_rows)).front();
    const size_t row = all.size() / static_cast<size_t>(all_rows);
    const auto data = all.subspan(static_cast<size_t>(first) * row, static_cast<size_t>(rows) * row);
    return lay_out(gguf_name, *tensor,
                   {.type = tensor->type, .rows = rows, .cols = cols, .slices = 1, .data = {data}, .consumed = {}});
  }

  [[nodiscard]] std::string name_in(int layer, std::string_view suffix) const {
    return fmt::format("blk.{}.{}", first_layer_ + layer, suffix);
  }
  [[nodiscard]] std::string experts_name(int layer, std::string_view kind) const {
    return name_in(layer, fmt::format("ffn_{}_exps.weight", kind));
  }

  // The experts' matrices: one tensor with three dimensions, or one tensor per expert ("...ffn_gate.E.weight").
  Result<Matrix> experts(int layer, std::string_view kind, int64_t rows, int64_t cols, int n_experts) {
    const std::string stacked = experts_name(layer, kind);
    if (find(stacked)) return matrix(stacked, rows, cols, n_experts);
    WeightSource source{
        .type = {}, .rows = rows, .cols = cols, .slices = n_experts, .data = {}, .panels = false, .consumed = {}};
    std::vector<const TensorRef*> tensors;
    for (int e = 0; e < n_experts; ++e) {
      tensors.push_back(TRY(require(name_in(layer, fmt::format("ffn_{}.{}.weight", kind, e)))));
      TRY(expect(*tensors.back(), cols, rows));
      source.type = tensors.front()->type;
      source.data.push_back(tensors.back()->data);
      if (tensors.back()->type != source.type)
        return fail(Code::kUnsupported, "tensor '{}' is {}, its neighbours are {}", tensors.back()->name,
                    info(tensors.back()->type).name, info(source.type).name);
    }
    Matrix weight = TRY(lay_out(stacked, *tensors.front(), std::move(source)));
    for (const TensorRef* tensor : tensors) loaded(*tensor);
    return weight;
  }

  // The experts' gates and ups in one tensor, each expert's gate rows before its up rows.
  Result<void> fused_experts(const DecoderConfig& c, int index, const TensorRef& tensor, int n_experts, Layer& layer) {
    const int64_t half = c.d_expert, cols = c.d_model;
    TRY(expect(tensor, cols, 2 * half, n_experts));
    const auto halves = TRY(pieces(tensor, half));
    auto every_second = [&](std::string_view kind, size_t first) {
      WeightSource source{
          .type = tensor.type, .rows = half, .cols = cols, .slices = n_experts, .data = {}, .consumed = {}};
      for (size_t i = first; i < halves.size(); i += 2) source.data.push_back(halves[i]);
      return lay_out(experts_name(index, kind), tensor, std::move(source));
    };
    layer.gate = TRY(every_second("gate", 0));
    layer.up = TRY(every_second("up", 1));
    loaded(tensor);
    return {};
  }

  // A tensor's elements as floats, whatever its type.
  Result<std::vector<float>> floats(std::string_view gguf_name, const TensorRef& tensor, int64_t n) {
    const TypeInfo& type = info(tensor.type);
    const auto bytes = row_bytes(type, static_cast<uint64_t>(n));
    if (!bytes || tensor.data.size() < *bytes)
      return fail(Code::kMalformed, "tensor '{}': {} elements of {} do not fit its {} bytes", tensor.name, n, type.name,
                  tensor.data.size());
    std::vector<float> values(static_cast<size_t>(n));
    type.decode(tensor.data.data(), values.data(), n);
    loaded(tensor);
    if (plan_)
      plan_->push_back({.name = std::string(gguf_name),
                        .shape = tensor.shape,
                        .n_dims = tensor.n_dims,
                        .matrix = {},
                        .floats = values});
    return values;
  }

  Result<Vector> to_buffer(std::span<const float> values) {
    Vector buffer = TRY(backend_.allocate(static_cast<int64_t>(values.size_bytes())));
    backend_.upload(*buffer, 0, std::as_bytes(values));
    return buffer;
  }

  Result<Vector> vector(std::string_view gguf_name, int64_t n, float plus = 0.0f) {
    const TensorRef* tensor = TRY(require(gguf_name));
    if (tensor->shape[0] != static_cast<uint64_t>(n) || tensor->n_dims != 1)
      return fail(Code::kMalformed, "tensor '{}' has the shape {}, the model's settings want {}", tensor->name,
                  shape_text(*tensor), n);
    std::vector<float> values = TRY(floats(gguf_name, *tensor, n));
    for (float& value : values) value += plus;
    return to_buffer(values);
  }

  Result<Vector> norm(std::string_view gguf_name, int64_t n) { return vector(gguf_name, n, plus_one_ ? 1.0f : 0.0f); }
  Result<Vector> optional_norm(std::string_view gguf_name, int64_t n) {
    if (!find(gguf_name)) return Vector();
    return norm(gguf_name, n);
  }
  Result<Vector> optional_vector(std::string_view gguf_name, int64_t n) {
    if (!find(gguf_name)) return Vector();
    return vector(gguf_name, n);
  }

  Result<void> attention(const DecoderConfig& c, int i, Layer& layer) {
    auto name = [&](std::string_view suffix) { return name_in(i, suffix); };
    const int64_t q = int64_t{layer.config.n_heads} * layer.config.head_dim,
                  kv = int64_t{layer.config.n_kv_heads} * layer.config.head_dim;
    if (c.fused_qkv && !checkpoint_.packed()) {
      const std::string whole = name("attn_qkv.weight");
      layer.q = TRY(part(name("attn_q.weight"), whole, 0, q, q + 2 * kv, c.d_model));
      layer.k = TRY(part(name("attn_k.weight"), whole, q, kv, q + 2 * kv, c.d_model));
      layer.v = TRY(part(name("attn_v.weight"), whole, q + kv, kv, q + 2 * kv, c.d_model));
    } else {
      layer.q = TRY(matrix(name("attn_q.weight"), q, c.d_model));
      layer.k = TRY(matrix(name("attn_k.weight"), kv, c.d_model));
      layer.v = TRY(matrix(name("attn_v.weight"), kv, c.d_model));
    }
    layer.o = TRY(matrix(name("attn_output.weight"), c.d_model, q));
    layer.q_bias = TRY(optional_vector(name("attn_q.bias"), q));
    layer.k_bias = TRY(optional_vector(name("attn_k.bias"), kv));
    layer.v_bias = TRY(optional_vector(name("attn_v.bias"), kv));
    layer.o_bias = TRY(optional_vector(name("attn_output.bias"), c.d_model));
    layer.q_norm = TRY(optional_norm(name("attn_q_norm.weight"), layer.config.head_dim));
    layer.k_norm = TRY(optional_norm(name("attn_k_norm.weight"), layer.config.head_dim));
    return {};
  }

  Result<void> short_conv(const DecoderConfig& c, int i, Layer& layer) {
    auto name = [&](std::string_view suffix) { return name_in(i, suffix); };
    layer.conv_in = TRY(matrix(name("shortconv.in_proj.weight"), 3 * int64_t{c.d_model}, c.d_model));
    layer.conv_out = TRY(matrix(name("shortconv.out_proj.weight"), c.d_model, c.d_model));
    const TensorRef* kernel = TRY(require(name("shortconv.conv.weight")));
    // [d][taps] in GGUF, [d][1][taps] in Hugging Face files; the order of the elements is the same.
    const bool fits = kernel->shape[0] == static_cast<uint64_t>(c.conv_taps) &&
                      kernel->shape[1] * kernel->shape[2] == static_cast<uint64_t>(c.d_model);
    if (!fits)
      return fail(Code::kMalformed, "tensor '{}' has the shape {}, want {} x {}", kernel->name, shape_text(*kernel),
                  c.conv_taps, c.d_model);
    const auto taps = TRY(floats(name("shortconv.conv.weight"), *kernel, int64_t{c.d_model} * c.conv_taps));
    layer.conv_kernel = TRY(to_buffer(taps));
    layer.conv_bias = TRY(optional_vector(name("shortconv.conv.bias"), c.d_model));
    return {};
  }

  Result<void> feed_forward(const DecoderConfig& c, int i, Layer& layer) {
    auto name = [&](std::string_view suffix) { return name_in(i, suffix); };
    const int64_t ffn = layer.config.d_ffn;
    if (const int n = layer.config.n_experts; n > 0) {
      layer.router = TRY(matrix(name("ffn_gate_inp.weight"), n, c.d_model));
      if (const TensorRef* both = find(name("ffn_gate_up_exps.weight"))) {
        TRY(fused_experts(c, i, *both, n, layer));
      } else {
        layer.gate = TRY(experts(i, "gate", c.d_expert, c.d_model, n));
        layer.up = TRY(experts(i, "up", c.d_expert, c.d_model, n));
      }
      layer.down = TRY(experts(i, "down", c.d_model, c.d_expert, n));
      return {};
    }
    if (c.fused_gate_up && !checkpoint_.packed()) {
      layer.gate = TRY(part(name("ffn_gate.weight"), name("ffn_up.weight"), 0, ffn, 2 * ffn, c.d_model));
      layer.up = TRY(part(name("ffn_up.weight"), name("ffn_up.weight"), ffn, ffn, 2 * ffn, c.d_model));
    } else {
      layer.gate = TRY(matrix(name("ffn_gate.weight"), ffn, c.d_model));
      layer.up = TRY(matrix(name("ffn_up.weight"), ffn, c.d_model));
    }
    layer.down = TRY(matrix(name("ffn_down.weight"), c.d_model, ffn));
    return {};
  }

  Result<Layer> layer(const DecoderConfig& c, int i) {
    auto name = [&](std::string_view suffix) { return name_in(i, suffix); };
    Layer layer;
    layer.config = c.layers[static_cast<size_t>(i)];
    layer.attn_norm = TRY(norm(name("attn_norm.weight"), c.d_model));
    if (layer.config.mixer == Mixer::kAttention)
      TRY(attention(c, i, layer));
    else
      TRY(short_conv(c, i, layer));
    layer.post_attn_norm = TRY(optional_norm(name("post_attention_norm.weight"), c.d_model));
    layer.ffn_norm = TRY(norm(name("ffn_norm.weight"), c.d_model));
    TRY(feed_forward(c, i, layer));
    layer.post_ffn_norm = TRY(optional_norm(name("post_ffw_norm.weight"), c.d_model));
    return layer;
  }

  // GGUF keeps per-frequency divisors in tensors: rope_freqs (Llama 3), rope_factors_short and _long (longrope).
  Result<void> rope_factors(DecoderConfig& config) {
    if (config.ropes.empty()) return {};
    RopeConfig& rope = config.ropes.front();
    auto read = [&](std::string_view gguf_name, std::vector<float>& out) -> Result<void> {
      const TensorRef* tensor = checkpoint_.find_tensor(std::string(gguf_name));
      if (!tensor) return {};
      if (tensor->shape[0] != static_cast<uint64_t>(rope.dims / 2))
        return fail(Code::kMalformed, "tensor '{}' has {} elements, the rope wants {}", gguf_name, tensor->shape[0],
                    rope.dims / 2);
      out = TRY(floats(gguf_name, *tensor, rope.dims / 2));
      rope.scaling = RopeScaling::kFactors;
      return {};
    };
    TRY(read("rope_freqs.weight", rope.factors));
    TRY(read("rope_factors_short.weight", rope.factors));
    TRY(read("rope_factors_long.weight", rope.long_factors));
    return {};
  }

  const Checkpoint& checkpoint_;
  const Family& family_;
  Backend& backend_;
  const DecoderOptions& options_;
  std::vector<PlannedTensor>* plan_;
  bool plus_one_ = false;
  int first_layer_ = 0;
  std::vector<bool> used_;  // by index of the checkpoint's tensors
  uint64_t total_bytes_ = 0, done_bytes_ = 0;
  int64_t weight_bytes_ = 0;
};

Result<std::unique_ptr<Decoder>> Decoder::load(const Checkpoint& checkpoint, Backend& backend,
                                               const DecoderOptions& options) {
  const Family* family = TRY(find_family(checkpoint));
  return DecoderLoader(checkpoint, *family, backend, options, nullptr).load();
}

Result<void> Decoder::attach_weights(const Checkpoint& pack, WeightStream& weights) {
  CHECK(first_layer_ == 0 && embedding_ && !weights_);
  const auto fresh =
      TRY(load(pack, backend_, {.context = context_, .rows_max = 1, .progress = {}, .weights = &weights}));
  layers_ = std::move(fresh->layers_);
  embedding_ = std::move(fresh->embedding_);
  head_ = std::move(fresh->head_);
  weights_ = std::exchange(fresh->weights_, nullptr);
  for (int unit = 0; unit < n_units(); ++unit) set_bits(unit, bits_[static_cast<size_t>(unit)]);
  return {};
}

Result<std::vector<PlannedTensor>> Decoder::plan(const Checkpoint& checkpoint, Backend& backend) {
  const Family* family = TRY(find_family(checkpoint));
  std::vector<PlannedTensor> planned;
  TRY(DecoderLoader(checkpoint, *family, backend, {}, &planned).load());
  return planned;
}

}  // namespace hearth
