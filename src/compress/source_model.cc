#include "compress/source_model.h"

#include <algorithm>

#include "compress/divergence.h"

namespace hearth::compress {
namespace {

TensorRef view(std::string name, const EncodedTensor& tensor) {
  TensorRef out;
  out.name = std::move(name);
  out.type = tensor.type, out.shape = tensor.shape, out.n_dims = tensor.n_dims, out.data = tensor.data;
  return out;
}
// Whether a tensor of a checkpoint can stand for it.
bool can_be_seen(const PlannedTensor& tensor) { return tensor.matrix.panels || tensor.matrix.data.size() == 1; }
TensorRef view(const PlannedTensor& tensor) {
  TensorRef out;
  out.name = tensor.name;
  out.type = tensor.matrix.type, out.shape = tensor.shape, out.n_dims = tensor.n_dims;
  if (tensor.matrix.panels)
    out.panels = tensor.matrix.data;
  else
    out.data = tensor.matrix.data.front();
  return out;
}

// A checkpoint's settings without its tensors; those that come in go by GGUF's names, as a pack's do.
Checkpoint::Parts settings_of(const Checkpoint& checkpoint) {
  Checkpoint::Parts parts;
  parts.kind = checkpoint.kind();
  parts.metadata = checkpoint.metadata();
  parts.config = checkpoint.config();
  parts.packed = true;
  return parts;
}

EncodedTensor as_floats(const PlannedTensor& tensor) {
  EncodedTensor out{.type = Type::kF32, .shape = tensor.shape, .n_dims = tensor.n_dims, .data = {}};
  auto append = [&](std::span<const float> values) {
    const auto bytes = std::as_bytes(values);
    out.data.insert(out.data.end(), bytes.begin(), bytes.end());
  };
  if (tensor.matrix.data.empty()) append(tensor.floats);
  for (size_t i = 0; i < tensor.matrix.data.size(); ++i) append(SourceModel::floats(tensor, i, 0, tensor.matrix.rows));
  return out;
}

}  // namespace

EncodedTensor as_floats(const EncodedTensor& tensor) {
  const TypeInfo& type = info(tensor.type);
  const uint64_t rows = tensor.shape[1] * tensor.shape[2] * tensor.shape[3], row = tensor.data.size() / rows;
  EncodedTensor out{.type = Type::kF32, .shape = tensor.shape, .n_dims = tensor.n_dims, .data = {}};
  std::vector<float> values(tensor.shape[0]);
  out.data.reserve(rows * values.size() * 4);
  for (uint64_t r = 0; r < rows; ++r) {
    type.decode(tensor.data.data() + r * row, values.data(), static_cast<int64_t>(values.size()));
    const auto bytes = std::as_bytes(std::span(values));
    out.data.insert(out.data.end(), bytes.begin(), bytes.end());
  }
  return out;
}

Result<void> LayerRunner::run(std::span<float> stream) {
  const SequenceId id = TRY(store_->open());
  const int count = static_cast<int>(stream.size()) / decoder_->config().d_model;
  TRY(store_->reserve(id, count));
  const std::vector<int32_t> tokens(static_cast<size_t>(count));  // layers do not look at them
  const SequenceRows rows = store_->rows(id, 0, count);
  decoder_->run_layers({.tokens = tokens, .sequences = {&rows, 1}}, *store_, stream);
  store_->release(id);
  return {};
}

Streams LayerRunner::embed(std::span<const std::vector<Token>> chunks) {
  Streams streams;
  for (const auto& chunk : chunks) {
    streams.emplace_back(chunk.size() * static_cast<size_t>(decoder_->config().d_model));
    decoder_->embed(chunk, streams.back());
  }
  return streams;
}

std::vector<float> LayerRunner::log_probabilities(std::span<const float> stream, size_t begin, size_t end,
                                                  ThreadPool& pool) {
  const auto d_model = static_cast<size_t>(decoder_->config().d_model);
  const auto n_vocab = static_cast<size_t>(decoder_->config().n_vocab);
  std::vector<int32_t> rows(end - begin);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  std::vector<float> out(rows.size() * n_vocab);
  decoder_->finish(stream.subspan(begin * d_model, rows.size() * d_model));
  decoder_->logits(rows, out);
  pool.parallel_for(static_cast<int64_t>(rows.size()), 1, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r)
      log_softmax(std::span(out).subspan(static_cast<size_t>(r) * n_vocab, n_vocab));
  });
  return out;
}

Result<SourceModel> SourceModel::open(const std::filesystem::path& path, Backend& backend) {
  SourceModel model;
  model.checkpoint_ = std::make_unique<Checkpoint>(TRY(open_checkpoint(path)));
  model.tensors_ = TRY(Decoder::plan(*model.checkpoint_, backend));
  for (const PlannedTensor& tensor : model.tensors_)
    model.n_layers_ = std::max(model.n_layers_, layer_of(tensor.name) + 1);
  model.context_max_ = TRY(model.ends({}, 1, backend)).decoder().config().context_max;
  return model;
}

const PlannedTensor* SourceModel::find(std::string_view name) const {
  const auto found = std::ranges::find(tensors_, name, &PlannedTensor::name);
  return found == tensors_.end() ? nullptr : &*found;
}

const PlannedTensor& SourceModel::head() const {
  const PlannedTensor* output = find("output.weight");
  return output ? *output : *find("token_embd.weight");
}

std::vector<float> SourceModel::floats(const PlannedTensor& tensor, size_t slice, int64_t begin, int64_t end) {
  const WeightSource& matrix = tensor.matrix;
  const TypeInfo& type = info(matrix.type);
  std::vector<float> out(static_cast<size_t>((end - begin) * matrix.cols));
  const auto data = matrix.data[slice];
  if (!matrix.panels) {
    const auto row = data.size() / static_cast<size_t>(matrix.rows);
    for (int64_t r = begin; r < end; ++r)
      type.decode(data.data() + static_cast<size_t>(r) * row, out.data() + (r - begin) * matrix.cols, matrix.cols);
    return out;
  }
  const int64_t panel = type.panel.panel_bytes(matrix.cols), low_panel = type.panel.low_bytes(matrix.cols);
  const std::byte* low = data.data() + type.panel.low_offset((matrix.rows + kPanelRows - 1) / kPanelRows, matrix.cols);
  for (int64_t row = begin; row < end; ++row)
    unpack_panel_row(type.panel, data.data() + row / kPanelRows * panel, low + row / kPanelRows * low_panel,
                     static_cast<int>(row % kPanelRows), matrix.cols, out.data() + (row - begin) * matrix.cols);
  return out;
}

uint64_t SourceModel::bytes_as(const PlannedTensor& tensor, const TypeInfo& type) {
  return row_bytes(type, tensor.shape[0]).value_or(0) * tensor.shape[1] * tensor.shape[2] * tensor.shape[3];
}

EncodedTensor SourceModel::encoded(const PlannedTensor& tensor) {
  if (tensor.matrix.data.empty() || tensor.matrix.panels) return as_floats(tensor);
  EncodedTensor out{.type = tensor.matrix.type, .shape = tensor.shape, .n_dims = tensor.n_dims, .data = {}};
  for (const auto slice : tensor.matrix.data) out.data.insert(out.data.end(), slice.begin(), slice.end());
  return out;
}

Result<Checkpoint> SourceModel::with_tensors(const EncodedTensors& tensors) const {
  Checkpoint::Parts parts = settings_of(*checkpoint_);
  for (const auto& [name, tensor] : tensors) parts.tensors.push_back(view(name, tensor));
  return Checkpoint::create(checkpoint_->path(), std::move(parts));
}

Result<LayerRunner> SourceModel::part(LayerRange range, const EncodedTensors& replaced, int positions,
                                      Backend& backend) const {
  EncodedTensors floats_of_part;
  Checkpoint::Parts parts = settings_of(*checkpoint_);
  for (const PlannedTensor& tensor : tensors_) {
    const int layer = layer_of(tensor.name);
    // The vocabulary's size is read off the embedding, also where a layer stands alone.
    const bool wanted =
        layer >= 0 ? layer >= range.first && layer < range.end
                   : range.first == range.end || tensor.name.starts_with("rope_") || tensor.name == "token_embd.weight";
    if (!wanted) continue;
    if (const auto found = replaced.find(tensor.name); found != replaced.end())
      parts.tensors.push_back(view(tensor.name, found->second));
    else if (can_be_seen(tensor) && (layer < 0 || info(tensor.matrix.type).panel.is_float()))
      parts.tensors.push_back(view(tensor));
    else
      parts.tensors.push_back(view(tensor.name, floats_of_part.emplace(tensor.name, as_floats(tensor)).first->second));
  }
  const Checkpoint checkpoint = TRY(Checkpoint::create(checkpoint_->path(), std::move(parts)));
  auto decoder = TRY(Decoder::load(checkpoint, backend,
                                   {.layers = range, .context = positions, .rows_max = positions, .progress = {}}));
  auto store = TRY(SequenceStore::create(backend, decoder->config(), {.positions_max = positions, .sequences_max = 1}));
  return LayerRunner(std::move(decoder), std::move(store));
}

Result<LayerRunner> SourceModel::layer(int index, const EncodedTensors& replaced, int positions,
                                       Backend& backend) const {
  return part({index, index + 1}, replaced, positions, backend);
}

Result<LayerRunner> SourceModel::ends(const EncodedTensors& replaced, int positions, Backend& backend) const {
  return part({0, 0}, replaced, positions, backend);
}

}  // namespace hearth::compress
