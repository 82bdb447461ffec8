// Encoders: models of BERT's kind that turn a text into one vector.
//
// Devlin et al. 2019, post-norm: x = norm(words + positions + segment); per layer x = norm(x + attention(x)),
// x = norm(x + W2 gelu(W1 x)). Attention sees both ways. What is pooled over a text's positions is its embedding (Reimers and
// Gurevych 2019).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "model/arch/bert.h"
#include "model/checkpoint.h"
#include "model/model.h"

namespace hearth {

// Any thread may use one; texts that several threads give at once are embedded one after the other.
class Encoder {
 public:
  // `path`: a folder with safetensors (with modules.json and the pooling's config.json where there are any) or a GGUF file.
  // Errors name the setting or the tensor.
  static Result<std::unique_ptr<Encoder>> load(const std::filesystem::path& path, std::unique_ptr<Backend> backend);

  // What the model reads: the text between its marks of beginning and end. Of more tokens than tokens_max() the last are left
  // out with `truncate`; without, kLimit with the numbers.
  [[nodiscard]] Result<std::vector<Token>> tokens(std::string_view text, bool truncate) const;

  // One vector of d_model floats per text, side by side, of length 1 where the model says so. Each is what it would be alone, to
  // the bit. Texts have 1 to tokens_max() tokens, as tokens() gives them.
  std::vector<float> embed(std::span<const std::vector<Token>> texts);

  [[nodiscard]] const EncoderConfig& config() const { return config_; }
  [[nodiscard]] int tokens_max() const { return config_.tokens_max; }
  [[nodiscard]] const Tokenizer& tokenizer() const { return *text_.tokenizer; }
  [[nodiscard]] int64_t memory_bytes() const { return memory_bytes_; }

 private:
  friend class EncoderLoader;
  struct Norm {
    std::vector<float> weight, bias;
  };
  struct Product {
    std::unique_ptr<Weight> weight;
    std::unique_ptr<Buffer> bias;
  };
  struct Layer {
    Product q, k, v, o, up, down;
    Norm attention_norm, output_norm;
  };
  Encoder(const EncoderConfig& config, std::unique_ptr<Backend> backend)
      : config_(config), backend_(std::move(backend)) {}
  Result<void> allocate();
  void run(std::span<const std::vector<Token>> texts, std::span<float> out);
  void attend(std::span<const std::vector<Token>> texts);
  void attend_head(int begin, int n, int head);
  void feed_forward(const Layer& layer, int n);
  void multiply(const Product& product, int64_t in_area, int64_t in_cols, int64_t out_area, int n, bool accumulate);
  void normalise(const Norm& norm, std::span<float> rows) const;
  void read(int64_t area, std::span<float> out) const;
  void write(int64_t area, std::span<const float> in);
  void pool(std::span<const float> rows, std::span<float> out) const;
  [[nodiscard]] Rows rows(int64_t area, int64_t cols, int n) const;

  EncoderConfig config_;
  std::unique_ptr<Backend> backend_;
  TextSide text_;
  Token first_ = kNoToken, last_ = kNoToken;  // the marks around a text
  std::unique_ptr<Weight> words_;
  std::vector<float> positions_, segment_;  // [tokens_max][d_model], [d_model]
  Norm embedding_norm_;
  std::vector<Layer> layers_;
  int64_t memory_bytes_ = 0;
  std::mutex mutex_;  // over what follows: one run at a time
  int rows_max_ = 0;
  struct Areas {
    int64_t x, q, k, v, mix, ffn, total;  // floats per row
  } areas_{};
  std::unique_ptr<Buffer> scratch_;
  std::vector<float> x_, q_, k_, v_, mix_, ffn_;  // host side
  std::vector<float> keys_, scores_;              // of one head: keys [head_dim][n], rounded up to 8
};

}  // namespace hearth
