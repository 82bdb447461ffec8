// The model that is compressed, taken apart: its tensors by GGUF's names, and decoders of single layers with some of them replaced.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/checkpoint.h"
#include "model/decoder.h"
#include "model/pack.h"
#include "model/sequence.h"
#include "text/tokenizer.h"

namespace hearth::compress {

// A tensor in blocks of its type, as files have it; slices one after the other.
struct EncodedTensor {
  Type type = Type::kF32;
  std::array<uint64_t, 4> shape = {1, 1, 1, 1};
  int n_dims = 1;
  std::vector<std::byte> data;
};
using EncodedTensors = std::map<std::string, EncodedTensor, std::less<>>;
EncodedTensor as_floats(const EncodedTensor& tensor);

// Tokens of pieces of a text, and activations of some sequences between two layers: [tokens][d_model] each.
using Chunks = std::vector<std::vector<Token>>;
using Streams = std::vector<std::vector<float>>;

// One layer, or embedding and head, on a backend.
class LayerRunner {
 public:
  LayerRunner(std::unique_ptr<Decoder> decoder, std::unique_ptr<SequenceStore> store)
      : decoder_(std::move(decoder)), store_(std::move(store)) {}
  // Runs the layer over a sequence from its start: stream [tokens][d_model], in and out.
  Result<void> run(std::span<float> stream);
  // Of embedding and head: where the streams of these sequences begin.
  [[nodiscard]] Streams embed(std::span<const std::vector<Token>> chunks);
  // And what rows [begin, end) of a stream behind the last layer predict: [end - begin][n_vocab].
  [[nodiscard]] std::vector<float> log_probabilities(std::span<const float> stream, size_t begin, size_t end,
                                                     ThreadPool& pool);
  [[nodiscard]] Decoder& decoder() { return *decoder_; }

 private:
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<SequenceStore> store_;
};

class SourceModel {
 public:
  // The backend is asked what it would lay out, and nothing more. Errors are those of open_checkpoint() and Decoder::plan().
  static Result<SourceModel> open(const std::filesystem::path& path, Backend& backend);

  [[nodiscard]] const Checkpoint& checkpoint() const { return *checkpoint_; }
  [[nodiscard]] int n_layers() const { return n_layers_; }
  [[nodiscard]] int context_max() const { return context_max_; }
  [[nodiscard]] int64_t d_model() const { return static_cast<int64_t>(find("token_embd.weight")->shape[0]); }
  [[nodiscard]] int64_t n_vocab() const { return static_cast<int64_t>(find("token_embd.weight")->shape[1]); }
  // The matrix that gives the logits: "output.weight", or the embedding where it is that, too.
  [[nodiscard]] const PlannedTensor& head() const;
  [[nodiscard]] std::span<const PlannedTensor> tensors() const { return tensors_; }
  [[nodiscard]] const PlannedTensor* find(std::string_view name) const;
  // Rows [begin, end) of a slice of a matrix.
  [[nodiscard]] static std::vector<float> floats(const PlannedTensor& matrix, size_t slice, int64_t begin, int64_t end);
  // Bytes of a tensor in a type; 0 if its rows are no whole blocks.
  [[nodiscard]] static uint64_t bytes_as(const PlannedTensor& tensor, const TypeInfo& type);
  // As the source has it; a pack's panels and vectors as floats.
  [[nodiscard]] static EncodedTensor encoded(const PlannedTensor& tensor);

  // Layer `index` for sequences of up to `positions` tokens, quantised matrices as floats, but for the tensors of `replaced`.
  Result<LayerRunner> layer(int index, const EncodedTensors& replaced, int positions, Backend& backend) const;
  // Embedding, last norm and head as the source has them, but for the tensors of `replaced`.
  Result<LayerRunner> ends(const EncodedTensors& replaced, int positions, Backend& backend) const;
  // A checkpoint of exactly these tensors with the source's settings and text. Views into both, which outlive it.
  [[nodiscard]] Result<Checkpoint> with_tensors(const EncodedTensors& tensors) const;

 private:
  Result<LayerRunner> part(LayerRange range, const EncodedTensors& replaced, int positions, Backend& backend) const;

  std::unique_ptr<Checkpoint> checkpoint_;  // at a place of its own: plans point into it
  std::vector<PlannedTensor> tensors_;
  int n_layers_ = 0, context_max_ = 0;
};

}  // namespace hearth::compress
