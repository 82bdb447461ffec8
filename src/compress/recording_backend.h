// A backend that shows what the products of a decoder read, on the way to the backend that computes them.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <unordered_map>

#include "backend/backend.h"

namespace hearth::compress {

// Passes everything on. While there is a listener, the input of every product goes to it first; a feed-forward is done in its parts,
// so that the input of its last matrix is seen as well. The inputs of a mixture's experts after the first matrices are not.
class RecordingBackend final : public Backend {
 public:
  // `readers`: the matrices that read x, rows of k floats, by the name under which they were loaded.
  using Listener = std::function<void(std::span<const std::string_view> readers, std::span<const float> x, int64_t k)>;

  // `inner` outlives this.
  explicit RecordingBackend(Backend& inner) : inner_(inner) {}
  void listen(Listener listener) { listener_ = std::move(listener); }
  // What stands between a feed-forward's first matrices and its last, rows of k floats, goes through this. Empty: nothing does.
  using Change = std::function<void(std::span<float> hidden, int64_t k)>;
  void change_hidden(Change change) { change_ = std::move(change); }

  [[nodiscard]] std::string_view name() const override { return inner_.name(); }
  [[nodiscard]] std::string describe() const override { return inner_.describe(); }
  Result<std::unique_ptr<Buffer>> allocate(int64_t bytes) override { return inner_.allocate(bytes); }
  void upload(Buffer& buffer, int64_t offset_bytes, std::span<const std::byte> data) override {
    inner_.upload(buffer, offset_bytes, data);
  }
  void download(const Buffer& buffer, int64_t offset_bytes, std::span<std::byte> data) override {
    inner_.download(buffer, offset_bytes, data);
  }
  void copy(const Buffer& from, int64_t from_bytes, Buffer& to, int64_t to_bytes, int64_t bytes) override {
    inner_.copy(from, from_bytes, to, to_bytes, bytes);
  }
  Result<std::unique_ptr<Weight>> load(const WeightSource& source) override;
  [[nodiscard]] int64_t weight_bytes(const WeightSource& source) const override { return inner_.weight_bytes(source); }
  [[nodiscard]] int64_t kv_page_bytes(const KvLayer& layer) const override { return inner_.kv_page_bytes(layer); }
  void embed(const Weight& table, std::span<const int32_t> ids, float scale, Rows out) override {
    inner_.embed(table, ids, scale, out);
  }
  void rms_norm(Rows x, const Buffer& weight, float eps, Rows out) override { inner_.rms_norm(x, weight, eps, out); }
  void linear(const LinearInput& in, std::span<const LinearPart> parts) override;
  void feed_forward(const LinearInput& in, const FeedForwardParams& params, Rows out, bool accumulate) override;
  void glu(Rows gate, Rows up, GluKind kind, Rows out) override { inner_.glu(gate, up, kind, out); }
  void add(Rows x, const LinearInput& y, float scale) override { inner_.add(x, y, scale); }
  void scale(Rows x, float scale, float cap) override { inner_.scale(x, scale, cap); }
  void gather(Rows x, std::span<const int32_t> rows, Rows out) override { inner_.gather(x, rows, out); }
  void largest(const LinearInput& in, const Weight& weight, float scale, float cap, int count,
               std::span<int32_t> columns, std::span<float> values) override {
    inner_.largest(in, weight, scale, cap, count, columns, values);
  }
  void kv_write(const KvLayer& layer, Rows q, Rows k, Rows v, std::span<const SequenceRows> sequences,
                const HeadParams& heads) override {
    inner_.kv_write(layer, q, k, v, sequences, heads);
  }
  void attention(const KvLayer& layer, Rows q, std::span<const SequenceRows> sequences, const AttentionParams& params,
                 Rows out) override {
    inner_.attention(layer, q, sequences, params, out);
  }
  void experts(const LinearInput& in, const ExpertParams& params, Rows x, float scale) override;
  void short_conv(Rows x, const Buffer& kernel, const Buffer* bias, int taps, Buffer& state, int64_t state_stride,
                  int64_t state_offset, std::span<const SequenceRows> sequences, Rows out) override {
    inner_.short_conv(x, kernel, bias, taps, state, state_stride, state_offset, sequences, out);
  }

 private:
  void show(const LinearInput& in, std::span<const Weight* const> readers);
  Rows scratch(int area, int n, int64_t cols);

  Backend& inner_;
  Listener listener_;
  Change change_;
  std::unordered_map<const Weight*, std::string> names_;
  std::array<std::unique_ptr<Buffer>, 3> scratch_;  // a normed input, a gate, an up
};

}  // namespace hearth::compress
