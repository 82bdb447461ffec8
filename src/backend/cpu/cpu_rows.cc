// What the CPU backend does row by row: norms, rotations, sums, convolutions.
#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/row_math.h"

namespace hearth::cpu {
namespace {

void rotate(float* heads, int64_t n, int head_dim, int dims, RopeStyle style, const float* cos) {
  const int half = dims / 2;
  const float* sin = cos + half;
  for (float *head = heads, *end = heads + n; head < end; head += head_dim) {
    if (style == RopeStyle::kHalves) {
      for (int i = 0; i < half; ++i) {
        const float a = head[i], b = head[half + i];
        head[i] = a * cos[i] - b * sin[i];
        head[half + i] = a * sin[i] + b * cos[i];
      }
    } else {
      for (int i = 0; i < half; ++i) {
        const float a = head[2 * i], b = head[2 * i + 1];
        head[2 * i] = a * cos[i] - b * sin[i];
        head[2 * i + 1] = a * sin[i] + b * cos[i];
      }
    }
  }
}

}  // namespace

void CpuBackend::for_rows(int m, int64_t cost_per_row, FunctionRef<void(int, int)> body) {
  if (m == 1 || m * cost_per_row < kWorthSharingNs) {
    for (int row = 0; row < m; ++row) body(row, 0);
    return;
  }
  const int64_t grain = std::max<int64_t>(1, m / (8 * pool_.n_threads()));
  pool_.parallel_for(m, grain, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t row = begin; row < end; ++row) body(static_cast<int>(row), thread);
  });
}

void CpuBackend::embed(const Weight& table, std::span<const int32_t> ids, float scale, Rows out) {
  const auto& weight = static_cast<const CpuWeight&>(table);
  for_rows(out.n, 2 * out.cols, [&](int r, int) {
    const int64_t id = ids[static_cast<size_t>(r)];
    float* to = floats(out) + r * out.stride;
    unpack_panel_row(weight.format(), weight.panel(0, id / kPanelRows), weight.low_panel(0, id / kPanelRows),
                     static_cast<int>(id % kPanelRows), weight.cols(), to);
    if (scale != 1.0f)
      for (int64_t i = 0; i < out.cols; ++i) to[i] *= scale;
  });
}

void CpuBackend::glu(Rows gate, Rows up, GluKind kind, Rows out) {
  for_rows(gate.n, gate.cols, [&](int r, int) {
    kernels_.glu(activation_of(kind), floats(gate) + r * gate.stride, floats(up) + r * up.stride, gate.cols,
                 floats(out) + r * out.stride);
  });
}

void CpuBackend::rms_norm(Rows x, const Buffer& weight, float eps, Rows out) {
  for_rows(x.n, x.cols / 2, [&](int r, int) {
    kernels_.rms_norm(floats(x) + r * x.stride, floats(weight), x.cols, eps, floats(out) + r * out.stride);
  });
}

Operand CpuBackend::prepare(const LinearInput& in, bool wants_floats, bool wants_codes) {
  const Rows& x = in.x;
  Operand out{.x = floats(x), .stride = x.stride, .k = x.cols, .m = x.n};
  if (in.norm && wants_floats) out.x = normed_.at_least(x.n * x.cols), out.stride = x.cols;
  if (wants_codes)
    out.codes = QuantizedRows::in(aligned(codes_, x.n * QuantizedRows::bytes_per_row(x.cols)), x.n, x.cols);
  if (!in.norm && !wants_codes) return out;
  reserve(thread_floats_, x.cols);
  for_rows(x.n, x.cols / 2, [&](int r, int thread) {
    const float* row = floats(x) + r * x.stride;
    if (in.norm) {
      float* normed = wants_floats ? normed_.at_least(0) + r * x.cols
                                   : thread_floats_[static_cast<size_t>(thread)].at_least(x.cols);
      kernels_.rms_norm(row, floats(*in.norm), x.cols, in.norm_eps, normed);
      row = normed;
    }
    if (wants_codes) kernels_.quantize_rows(row, x.cols, 1, out.codes.from_row(r));
  });
  return out;
}

void CpuBackend::place_heads(Rows rows, int r, const Buffer* norm, const HeadParams& heads, int head_dim) const {
  float* x = floats(rows) + r * rows.stride;
  if (norm)
    for (int64_t i = 0; i < rows.cols; i += head_dim)
      kernels_.rms_norm(x + i, floats(*norm), head_dim, heads.norm_eps, x + i);
  if (heads.rope_dims > 0)
    rotate(x, rows.cols, head_dim, heads.rope_dims, heads.rope_style, floats(heads.cos_sin) + r * heads.cos_sin.stride);
}

void CpuBackend::kv_write(const KvLayer& layer, Rows q, Rows k, Rows v, std::span<const SequenceRows> sequences,
                          const HeadParams& heads) {
  reserve(thread_floats_, q.cols + k.cols + kPagePositions);  // more than the padded head write_kv_row() needs
  const bool i4 = layer.type == KvType::kI4;
  const int block = i4 ? hadamard_block(layer.head_dim) : 0;
  for_rows(k.n, q.cols + 3 * k.cols, [&](int r, int thread) {
    // Sequences cover the rows in order.
    const auto sequence = std::ranges::upper_bound(sequences, r, {}, &SequenceRows::first_row) - 1;
    const int end = sequence->first_row + sequence->count;
    int position = sequence->position + r - sequence->first_row;
    // Values of eight positions in four bits share words: one thread writes them all.
    if (i4 && position % 8 != 0 && r != sequence->first_row) return;
    do {
      place_heads(q, r, heads.q_norm, heads, layer.head_dim);
      place_heads(k, r, heads.k_norm, heads, layer.head_dim);
      if (block > 0) {
        kernels_.hadamard(floats(q) + r * q.stride, q.cols, block);
        kernels_.hadamard(floats(k) + r * k.stride, k.cols, block);
      }
      write_kv_row(layer, k, v, r, sequence->pages[static_cast<size_t>(position / kKvPagePositions)],
                   position % kKvPagePositions, thread);
    } while (i4 && ++r < end && ++position % 8 != 0);
  });
}

void CpuBackend::add(Rows x, const LinearInput& y, float scale) {
  reserve(thread_floats_, x.cols);
  for_rows(x.n, x.cols / 2, [&](int r, int thread) {
    float* to = floats(x) + r * x.stride;
    const float* from = floats(y.x) + r * y.x.stride;
    if (y.norm) {
      float* normed = thread_floats_[static_cast<size_t>(thread)].at_least(x.cols);
      kernels_.rms_norm(from, floats(*y.norm), x.cols, y.norm_eps, normed);
      from = normed;
    }
    add_scaled(to, from, x.cols, scale);
  });
}

void CpuBackend::scale(Rows x, float scale, float cap) {
  for_rows(x.n, cap != 0.0f ? 4 * x.cols : x.cols / 4,
           [&](int r, int) { scale_capped(floats(x) + r * x.stride, x.cols, scale, cap); });
}

void CpuBackend::gather(Rows x, std::span<const int32_t> rows, Rows out) {
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(floats(out) + static_cast<int64_t>(i) * out.stride, floats(x) + rows[i] * x.stride,
                static_cast<size_t>(x.cols) * sizeof(float));
}

void CpuBackend::short_conv(Rows x, const Buffer& kernel, const Buffer* bias, int taps, Buffer& state,
                            int64_t state_stride, int64_t state_offset, std::span<const SequenceRows> sequences,
                            Rows out) {
  const int64_t d = out.cols;
  const float* weights = floats(kernel);  // [d][taps]
  const int history = taps - 1;
  for (const SequenceRows& sequence : sequences) {
    float* past = reinterpret_cast<float*>(data(state)) + sequence.state_slot * state_stride +
                  state_offset;  // [history][d], oldest first
    for (int r = sequence.first_row; r < sequence.first_row + sequence.count; ++r) {
      const float *b = floats(x) + r * x.stride, *c = b + d, *u = c + d;
      float* to = floats(out) + r * out.stride;
      for (int64_t i = 0; i < d; ++i) {
        const float y = b[i] * u[i];
        float sum = bias ? floats(*bias)[i] : 0.0f;
        for (int t = 0; t < history; ++t) sum += weights[i * taps + t] * past[t * d + i];
        sum += weights[i * taps + history] * y;
        to[i] = c[i] * sum;
        for (int t = 0; t + 1 < history; ++t) past[t * d + i] = past[(t + 1) * d + i];
        if (history > 0) past[(history - 1) * d + i] = y;
      }
    }
  }
}

}  // namespace hearth::cpu
