#include "model/encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/exact_math.h"

namespace hearth {
namespace {

// Attention's inner loops run over so many keys at once, which compilers make into vectors.
constexpr size_t kLanes = 8;
size_t rounded_up(int n) { return (static_cast<size_t>(n) + kLanes - 1) / kLanes * kLanes; }

}  // namespace

class EncoderLoader {
 public:
  EncoderLoader(const Checkpoint& checkpoint, Backend& backend) : checkpoint_(checkpoint), backend_(backend) {}

  Result<void> load(Encoder& encoder) {
    const EncoderConfig& c = encoder.config_;
    encoder.words_ = TRY(matrix("token_embd.weight", c.n_vocab, c.d_model));
    encoder.positions_ = TRY(floats("position_embd.weight", c.n_positions, c.d_model));
    encoder.segment_.assign(static_cast<size_t>(c.d_model), 0.0f);
    if (c.n_segments > 0) encoder.segment_ = TRY(floats("token_types.weight", c.n_segments, c.d_model));
    encoder.segment_.resize(static_cast<size_t>(c.d_model));  // texts are all of the first segment
    encoder.embedding_norm_ = TRY(norm("token_embd_norm", c.d_model));
    for (int i = 0; i < c.n_layers; ++i) {
      const std::string in = fmt::format("blk.{}.", i);
      Encoder::Layer layer;
      layer.q = TRY(product(in + "attn_q", c.d_model, c.d_model));
      layer.k = TRY(product(in + "attn_k", c.d_model, c.d_model));
      layer.v = TRY(product(in + "attn_v", c.d_model, c.d_model));
      layer.o = TRY(product(in + "attn_output", c.d_model, c.d_model));
      layer.up = TRY(product(in + "ffn_up", c.d_ffn, c.d_model));
      layer.down = TRY(product(in + "ffn_down", c.d_model, c.d_ffn));
      layer.attention_norm = TRY(norm(in + "attn_output_norm", c.d_model));
      layer.output_norm = TRY(norm(in + "layer_output_norm", c.d_model));
      encoder.layers_.push_back(std::move(layer));
    }
    encoder.memory_bytes_ = bytes_;
    return {};
  }

 private:
  Result<const TensorRef*> require(std::string_view gguf_name, int64_t rows, int64_t cols) {
    const std::string name = bert_tensor_name(checkpoint_, gguf_name);
    const TensorRef* tensor = checkpoint_.find_tensor(name);
    if (!tensor) return fail(Code::kMalformed, "the model has no tensor '{}'", name);
    if (tensor->shape[0] != static_cast<uint64_t>(cols) || tensor->rows() != static_cast<uint64_t>(rows))
      return fail(Code::kMalformed, "tensor '{}' has the shape {}, the model's settings want {} x {}", name,
                  shape_text(*tensor), cols, rows);
    return tensor;
  }
  Result<std::unique_ptr<Weight>> matrix(std::string_view gguf_name, int64_t rows, int64_t cols) {
    const TensorRef* tensor = TRY(require(gguf_name, rows, cols));
    auto weight =
        backend_.load({.type = tensor->type, .rows = rows, .cols = cols, .data = {tensor->data}, .consumed = {}});
    if (!weight) return within(tensor->name, weight.error());
    bytes_ += (*weight)->bytes();
    return weight;
  }
  Result<std::vector<float>> floats(std::string_view gguf_name, int64_t rows, int64_t cols) {
    const TensorRef* tensor = TRY(require(gguf_name, rows, cols));
    std::vector<float> values(tensor->elements());
    info(tensor->type).decode(tensor->data.data(), values.data(), static_cast<int64_t>(values.size()));
    bytes_ += static_cast<int64_t>(values.size() * sizeof(float));
    return values;
  }
  Result<Encoder::Norm> norm(const std::string& name, int64_t n) {
    Encoder::Norm norm;
    norm.weight = TRY(floats(name + ".weight", 1, n));
    norm.bias = TRY(floats(name + ".bias", 1, n));
    return norm;
  }
  Result<Encoder::Product> product(const std::string& name, int64_t rows, int64_t cols) {
    Encoder::Product product;
    product.weight = TRY(matrix(name + ".weight", rows, cols));
    const std::vector<float> bias = TRY(floats(name + ".bias", 1, rows));
    product.bias = TRY(backend_.allocate(rows * static_cast<int64_t>(sizeof(float))));
    backend_.upload(*product.bias, 0, std::as_bytes(std::span(bias)));
    return product;
  }

  const Checkpoint& checkpoint_;
  Backend& backend_;
  int64_t bytes_ = 0;
};

Result<std::unique_ptr<Encoder>> Encoder::load(const std::filesystem::path& path, std::unique_ptr<Backend> backend) {
  const Checkpoint checkpoint = TRY(open_checkpoint(path));
  auto config = configure_bert(checkpoint);
  if (!config) return within(path.string(), config.error());
  std::unique_ptr<Encoder> encoder(new Encoder(*config, std::move(backend)));
  if (auto loaded = EncoderLoader(checkpoint, *encoder->backend_).load(*encoder); !loaded)
    return within(path.string(), loaded.error());
  encoder->text_ = TRY(load_text(checkpoint));
  const TokenizerData& data = encoder->tokenizer().data();
  encoder->first_ = data.cls != kNoToken ? data.cls : encoder->tokenizer().find("[CLS]");
  encoder->last_ = data.sep != kNoToken ? data.sep : encoder->tokenizer().find("[SEP]");
  if (encoder->tokenizer().n_vocab() > config->n_vocab)
    return fail(Code::kMalformed, "{}: the tokenizer has {} tokens, the embedding only {} rows", path.string(),
                encoder->tokenizer().n_vocab(), config->n_vocab);
  if (encoder->first_ == kNoToken || encoder->last_ == kNoToken)
    return fail(Code::kMalformed, "{}: the tokenizer has no tokens that begin and end a text (CLS, SEP)",
                path.string());
  TRY(encoder->allocate());
  checkpoint.release_read();
  return encoder;
}

Result<void> Encoder::allocate() {
  constexpr int kRowsUsual = 512;
  rows_max_ = std::max(config_.tokens_max, kRowsUsual);
  int64_t next = 0;
  auto area = [&](int64_t width) { return std::exchange(next, next + (width + 15) / 16 * 16); };
  areas_.x = area(config_.d_model), areas_.q = area(config_.d_model), areas_.k = area(config_.d_model);
  areas_.v = area(config_.d_model), areas_.mix = area(config_.d_model), areas_.ffn = area(config_.d_ffn);
  areas_.total = next;
  scratch_ = TRY(backend_->allocate(4 * areas_.total * rows_max_));
  memory_bytes_ += 8 * areas_.total * rows_max_;  // here and on the backend
  return {};
}

Result<std::vector<Token>> Encoder::tokens(std::string_view text, bool truncate) const {
  std::vector<Token> tokens{first_};
  const std::vector<Token> words = tokenizer().encode(text, {});
  tokens.insert(tokens.end(), words.begin(), words.end());
  const auto most = static_cast<size_t>(tokens_max()) - 1;
  if (tokens.size() > most && !truncate)
    return fail(Code::kLimit, "the text has {} tokens, this model reads at most {}", tokens.size() + 1, tokens_max());
  tokens.resize(std::min(tokens.size(), most));
  tokens.push_back(last_);
  return tokens;
}

Rows Encoder::rows(int64_t area, int64_t cols, int n) const {
  return {scratch_.get(), area * rows_max_, n, cols, cols};
}
void Encoder::read(int64_t area, std::span<float> out) const {
  backend_->download(*scratch_, 4 * area * rows_max_, std::as_writable_bytes(out));
}
void Encoder::write(int64_t area, std::span<const float> in) {
  backend_->upload(*scratch_, 4 * area * rows_max_, std::as_bytes(in));
}

void Encoder::multiply(const Product& product, int64_t in_area, int64_t in_cols, int64_t out_area, int n,
                       bool accumulate) {
  const LinearPart part{product.weight.get(), product.bias.get(), rows(out_area, product.weight->rows(), n),
                        accumulate};
  backend_->linear({rows(in_area, in_cols, n)}, {&part, 1});
}

// (x - mean) / sqrt(variance + eps) * weight + bias, row by row.
void Encoder::normalise(const Norm& norm, std::span<float> rows) const {
  const size_t d = norm.weight.size();
  for (size_t first = 0; first < rows.size(); first += d) {
    const std::span<float> x = rows.subspan(first, d);
    double sum = 0, squares = 0;
    for (const float value : x) sum += value;
    const double mean = sum / static_cast<double>(d);
    for (const float value : x) squares += (value - mean) * (value - mean);
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(d) + config_.norm_eps);
    for (size_t i = 0; i < d; ++i) x[i] = static_cast<float>((x[i] - mean) * scale) * norm.weight[i] + norm.bias[i];
  }
}

// One head over the rows [begin, begin + n) of one text: mix = softmax(q k^T / sqrt(head_dim)) v.
void Encoder::attend_head(int begin, int n, int head) {
  const auto d = static_cast<size_t>(config_.d_model), width = d / static_cast<size_t>(config_.n_heads);
  const size_t padded = rounded_up(n), at = static_cast<size_t>(begin) * d + static_cast<size_t>(head) * width;
  const float scale = 1.0f / std::sqrt(static_cast<float>(width));
  keys_.assign(width * padded, 0.0f);
  for (size_t j = 0; j < static_cast<size_t>(n); ++j)
    for (size_t i = 0; i < width; ++i) keys_[i * padded + j] = k_[at + j * d + i];
  scores_.resize(padded);
  for (size_t row = 0; row < static_cast<size_t>(n); ++row) {
    const float* query = &q_[at + row * d];
    std::ranges::fill(scores_, 0.0f);
    for (size_t i = 0; i < width; ++i)
      for (size_t j = 0; j < padded; j += kLanes)
        for (size_t lane = 0; lane < kLanes; ++lane) scores_[j + lane] += query[i] * keys_[i * padded + j + lane];
    const std::span<float> scores = std::span(scores_).first(static_cast<size_t>(n));
    const float largest = *std::ranges::max_element(scores);
    double sum = 0;
    for (float& score : scores) {
      score = static_cast<float>(quick_exp((score - largest) * scale));
      sum += score;
    }
    float* out = &mix_[at + row * d];
    std::fill_n(out, width, 0.0f);
    for (size_t j = 0; j < scores.size(); ++j) {
      const float share = static_cast<float>(scores[j] / sum);
      for (size_t i = 0; i < width; ++i) out[i] += share * v_[at + j * d + i];
    }
  }
}

void Encoder::attend(std::span<const std::vector<Token>> texts) {
  read(areas_.q, q_);
  read(areas_.k, k_);
  read(areas_.v, v_);
  int begin = 0;
  for (const auto& text : texts) {
    const int n = static_cast<int>(text.size());
    for (int head = 0; head < config_.n_heads; ++head) attend_head(begin, n, head);
    begin += n;
  }
  write(areas_.mix, mix_);
}

// Adds to x.
void Encoder::feed_forward(const Layer& layer, int n) {
  multiply(layer.up, areas_.x, config_.d_model, areas_.ffn, n, false);
  read(areas_.ffn, ffn_);
  for (float& x : ffn_) x = static_cast<float>(0.5 * x * (1.0 + exact_erf(x * 0.70710678118654752)));  // gelu, exactly
  write(areas_.ffn, ffn_);
  multiply(layer.down, areas_.ffn, config_.d_ffn, areas_.x, n, true);
}

void Encoder::pool(std::span<const float> rows, std::span<float> out) const {
  const size_t d = out.size(), n = rows.size() / d;
  std::vector<double> sums(d);
  for (size_t row = 0; row < (config_.pooling == Pooling::kFirst ? 1 : n); ++row)
    for (size_t i = 0; i < d; ++i) sums[i] += rows[row * d + i];
  double scale = config_.pooling == Pooling::kFirst ? 1.0 : 1.0 / static_cast<double>(n);
  if (config_.normalise) {
    double squares = 0;
    for (const double sum : sums) squares += sum * sum;
    scale = squares > 0 ? 1.0 / std::sqrt(squares) : 0.0;
  }
  for (size_t i = 0; i < d; ++i) out[i] = static_cast<float>(sums[i] * scale);
}

// Texts of at most rows_max_ tokens together.
void Encoder::run(std::span<const std::vector<Token>> texts, std::span<float> out) {
  std::vector<Token> tokens;
  for (const auto& text : texts) tokens.insert(tokens.end(), text.begin(), text.end());
  const int n = static_cast<int>(tokens.size());
  const auto d = static_cast<size_t>(config_.d_model);
  for (auto* rows : {&x_, &q_, &k_, &v_, &mix_}) rows->resize(tokens.size() * d);
  ffn_.resize(tokens.size() * static_cast<size_t>(config_.d_ffn));
  backend_->embed(*words_, tokens, 1.0f, rows(areas_.x, config_.d_model, n));
  read(areas_.x, x_);
  float* row = x_.data();
  for (const auto& text : texts)
    for (size_t position = 0; position < text.size(); ++position, row += d)
      for (size_t i = 0; i < d; ++i) row[i] = (row[i] + positions_[position * d + i]) + segment_[i];
  normalise(embedding_norm_, x_);
  write(areas_.x, x_);
  for (const Layer& layer : layers_) {
    multiply(layer.q, areas_.x, config_.d_model, areas_.q, n, false);
    multiply(layer.k, areas_.x, config_.d_model, areas_.k, n, false);
    multiply(layer.v, areas_.x, config_.d_model, areas_.v, n, false);
    attend(texts);
    multiply(layer.o, areas_.mix, config_.d_model, areas_.x, n, true);
    read(areas_.x, x_);
    normalise(layer.attention_norm, x_);
    write(areas_.x, x_);
    feed_forward(layer, n);
    read(areas_.x, x_);
    normalise(layer.output_norm, x_);
    write(areas_.x, x_);
  }
  size_t begin = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    pool(std::span(x_).subspan(begin, texts[i].size() * d), out.subspan(i * d, d));
    begin += texts[i].size() * d;
  }
}

std::vector<float> Encoder::embed(std::span<const std::vector<Token>> texts) {
  const auto d = static_cast<size_t>(config_.d_model);
  std::vector<float> out(texts.size() * d);
  for (size_t first = 0; first < texts.size();) {
    size_t count = 0, n_rows = 0;
    while (first + count < texts.size() &&
           (count == 0 || n_rows + texts[first + count].size() <= static_cast<size_t>(rows_max_))) {
      const size_t n = texts[first + count++].size();
      CHECK(n > 0 && n <= static_cast<size_t>(tokens_max()));
      n_rows += n;
    }
    const std::scoped_lock lock(mutex_);  // for a part only, so that others need not wait for a long list
    run(texts.subspan(first, count), std::span(out).subspan(first * d, count * d));
    first += count;
  }
  return out;
}

}  // namespace hearth
