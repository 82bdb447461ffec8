#include "compress/calibration.h"

#include <algorithm>
#include <cmath>

namespace hearth::compress {
namespace {

// The head's inputs are many for their width: some pieces of a text will do.
constexpr size_t kHeadStreams = 16;

// An input of a layer on one sequence.
struct Seen {
  std::vector<std::string> readers;
  std::vector<float> x;
  int64_t k = 0;
};

float mean_square(std::span<const float> x) {
  float sum = 0;
  for (const float v : x) sum += v * v;
  return sum / static_cast<float>(x.size());
}

// What a matrix adds to the stream is read by way of a norm, so that an error counts by its share of the stream. Without this the few
// tokens that models give enormous activations (the first, mostly) would decide everything. Where the sum is normed before it is
// added, it is the size of the input that says how large it is.
void weigh(Seen& seen, std::span<const float> stream, bool normed_apart) {
  const size_t rows = seen.x.size() / static_cast<size_t>(seen.k), width = stream.size() / rows;
  for (size_t r = 0; r < rows; ++r) {
    const auto x = std::span(seen.x).subspan(r * static_cast<size_t>(seen.k), static_cast<size_t>(seen.k));
    const float size = mean_square(normed_apart ? std::span<const float>(x) : stream.subspan(r * width, width));
    const float weight = size > 0 ? 1 / std::sqrt(size) : 0;
    for (float& v : x) v *= weight;
  }
}

// Tokens of the longest.
int longest(const Streams& streams, int64_t d_model) {
  size_t out = 1;
  for (const auto& stream : streams) out = std::max(out, stream.size() / static_cast<size_t>(d_model));
  return static_cast<int>(out);
}

bool writes_stream(std::string_view name) {
  return name.ends_with("attn_output.weight") || name.ends_with("ffn_down.weight") ||
         name.ends_with("shortconv.out_proj.weight");
}

}  // namespace

Result<FeedbackByName> calibrate_layer(const SourceModel& source, int index, const Streams& streams, float damping,
                                       Backend& backend) {
  RecordingBackend recorder(backend);
  LayerRunner layer = TRY(source.layer(index, {}, longest(streams, source.d_model()), recorder));
  const bool normed_apart = source.find(fmt::format("blk.{}.post_ffw_norm.weight", index)) != nullptr;
  std::vector<Seen> sequence;
  recorder.listen([&](std::span<const std::string_view> readers, std::span<const float> x, int64_t k) {
    sequence.push_back({{readers.begin(), readers.end()}, {x.begin(), x.end()}, k});
  });
  // Inputs are told apart by the first matrix that reads them.
  std::map<std::string, Moments> inputs;
  std::map<std::string, std::string> input_of;
  for (std::vector<float> stream : streams) {
    sequence.clear();
    TRY(layer.run(stream));
    for (Seen& seen : sequence) {
      if (seen.k % kGroup != 0) continue;  // no type with blocks has such rows: these matrices stay as they are
      const std::string& first = seen.readers.front();
      if (writes_stream(first)) weigh(seen, stream, normed_apart);
      auto found = inputs.find(first);
      if (found == inputs.end()) found = inputs.emplace(first, TRY(Moments::create(backend, seen.k))).first;
      TRY(found->second.add(seen.x));
      for (const std::string& reader : seen.readers) input_of[reader] = first;
    }
  }
  std::map<std::string, std::shared_ptr<const ErrorFeedback>> factored;
  for (const auto& [name, moments] : inputs)
    factored[name] = std::make_shared<const ErrorFeedback>(
        TRY(ErrorFeedback::create(backend, moments.values(), moments.k(), damping)));
  FeedbackByName out;
  for (const PlannedTensor& tensor : source.tensors()) {
    if (layer_of(tensor.name) != index || tensor.matrix.data.empty()) continue;
    const auto found = input_of.find(tensor.name);
    out[tensor.name] = found != input_of.end()
                           ? factored.at(found->second)
                           : std::make_shared<const ErrorFeedback>(ErrorFeedback::none(tensor.matrix.cols));
  }
  return out;
}

Result<ErrorFeedback> calibrate_head(const SourceModel& source, const Streams& streams, float damping,
                                     Backend& backend) {
  const int64_t k = source.d_model();
  if (streams.empty() || k % kGroup != 0) return ErrorFeedback::none(k);
  Moments moments = TRY(Moments::create(backend, k));
  Streams some(streams.begin(), streams.begin() + static_cast<ptrdiff_t>(std::min(streams.size(), kHeadStreams)));
  const int positions = longest(some, k);
  for (int i = 0; i < source.n_layers(); ++i) {
    LayerRunner layer = TRY(source.layer(i, {}, positions, backend));
    for (auto& stream : some) TRY(layer.run(stream));
  }
  LayerRunner ends = TRY(source.ends({}, positions, backend));
  for (const auto& stream : some) {
    std::vector<int32_t> rows(stream.size() / static_cast<size_t>(k));
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
    std::vector<float> hidden(stream.size());
    ends.decoder().finish(stream);
    ends.decoder().hidden(rows, hidden);
    TRY(moments.add(hidden));
  }
  return ErrorFeedback::create(backend, moments.values(), k, damping);
}

}  // namespace hearth::compress
