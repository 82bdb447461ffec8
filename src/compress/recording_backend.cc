#include "compress/recording_backend.h"

#include <array>

#include "base/check.h"

namespace hearth::compress {

Result<std::unique_ptr<Weight>> RecordingBackend::load(const WeightSource& source) {
  auto weight = TRY(inner_.load(source));
  names_[weight.get()] = source.name;
  return weight;
}

Rows RecordingBackend::scratch(int area, int n, int64_t cols) {
  std::unique_ptr<Buffer>& buffer = scratch_[static_cast<size_t>(area)];
  const int64_t bytes = n * cols * 4;
  if (!buffer || buffer->bytes() < bytes) {
    auto larger = inner_.allocate(bytes);
    CHECK(larger);  // some hundred kilobytes beside a model's layer
    buffer = std::move(*larger);
  }
  return {buffer.get(), 0, n, cols, cols};
}

void RecordingBackend::show(const LinearInput& in, std::span<const Weight* const> readers) {
  if (!listener_) return;
  const Rows rows = scratch(0, in.x.n, in.x.cols);
  std::vector<float> x(static_cast<size_t>(rows.n * rows.cols));
  if (in.norm) {
    inner_.rms_norm(in.x, *in.norm, in.norm_eps, rows);
    inner_.download(*rows.buffer, 0, std::as_writable_bytes(std::span(x)));
  } else {
    for (int64_t r = 0; r < rows.n; ++r)
      inner_.download(*in.x.buffer, (in.x.offset + r * in.x.stride) * 4,
                      std::as_writable_bytes(
                          std::span(x).subspan(static_cast<size_t>(r * rows.cols), static_cast<size_t>(rows.cols))));
  }
  std::vector<std::string_view> names;
  for (const Weight* weight : readers) names.push_back(names_.at(weight));
  listener_(names, x, rows.cols);
}

void RecordingBackend::linear(const LinearInput& in, std::span<const LinearPart> parts) {
  std::vector<const Weight*> readers;
  for (const LinearPart& part : parts) readers.push_back(part.weight);
  show(in, readers);
  inner_.linear(in, parts);
}

void RecordingBackend::feed_forward(const LinearInput& in, const FeedForwardParams& params, Rows out, bool accumulate) {
  if (!listener_ && !change_) return inner_.feed_forward(in, params, out, accumulate);
  const Rows gate = scratch(1, in.x.n, params.gate->rows()), up = scratch(2, in.x.n, params.up->rows());
  const std::array first{LinearPart{params.gate, nullptr, gate, false}, LinearPart{params.up, nullptr, up, false}};
  linear(in, first);
  inner_.glu(gate, up, params.glu, gate);
  if (change_) {
    std::vector<float> hidden(static_cast<size_t>(gate.n * gate.cols));
    inner_.download(*gate.buffer, gate.offset * 4, std::as_writable_bytes(std::span(hidden)));
    change_(hidden, gate.cols);
    inner_.upload(*gate.buffer, gate.offset * 4, std::as_bytes(std::span(hidden)));
  }
  const LinearPart last{params.down, nullptr, out, accumulate};
  linear({gate}, {&last, 1});
}

void RecordingBackend::experts(const LinearInput& in, const ExpertParams& params, Rows x, float scale) {
  const std::array readers{params.router, params.experts.gate, params.experts.up};
  show(in, readers);
  inner_.experts(in, params, x, scale);
}

}  // namespace hearth::compress
