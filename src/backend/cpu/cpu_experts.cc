// Mixtures of experts on the CPU: rows sorted by expert, each chosen expert's matrices read once per step, all experts that are in
// memory together in one loop for what goes in and one for what comes out.
#include "backend/cpu/cpu_experts.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "backend/cpu/math8.h"
#include "backend/cpu/row_math.h"

namespace hearth::cpu {
namespace {

// Sorts as integers: larger logits first, of equal ones the lower expert.
uint64_t sort_key(float logit, int expert) {
  const auto bits = std::bit_cast<uint32_t>(logit + 0.0f);  // one zero
  const uint32_t ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t{~ascending} << 32 | static_cast<uint32_t>(expert);
}

// The n_used most likely experts of one row; weights as the family wants them.
void choose(const float* logits, int n_experts, int row, const ExpertParams& params, ExpertScratch& scratch) {
  auto& order = scratch.order;
  order.clear();
  for (int i = 0; i < n_experts; ++i) order.push_back(sort_key(logits[i], i));
  std::ranges::sort(order);
  auto logit = [&](int rank) { return logits[static_cast<uint32_t>(order[static_cast<size_t>(rank)])]; };
  const int counted = params.softmax_before_top_k ? n_experts : params.n_used;
  float total = 0.0f, chosen = 0.0f;
  for (int rank = 0; rank < counted; ++rank) total += exp_f32(logit(rank) - logit(0));
  const size_t first = scratch.choices.size();
  for (int rank = 0; rank < params.n_used; ++rank) {
    const float weight = exp_f32(logit(rank) - logit(0)) / total;
    chosen += weight;
    scratch.choices.push_back({row, static_cast<int>(static_cast<uint32_t>(order[static_cast<size_t>(rank)])), weight});
  }
  for (Choice& choice : std::span(scratch.choices).subspan(first))
    choice.weight = (params.normalise ? choice.weight / chosen : choice.weight) * params.scale;
}

// Where each choice lies when they are sorted by expert, in the order of rows within one.
void sort_by_expert(int n_experts, ExpertScratch& scratch) {
  scratch.first.assign(static_cast<size_t>(n_experts) + 1, 0);
  for (const Choice& choice : scratch.choices) ++scratch.first[static_cast<size_t>(choice.expert) + 1];
  for (size_t i = 1; i < scratch.first.size(); ++i) scratch.first[i] += scratch.first[i - 1];
  scratch.place.clear();
  for (const Choice& choice : scratch.choices)
    scratch.place.push_back(scratch.first[static_cast<size_t>(choice.expert)]++);
  for (size_t i = scratch.first.size() - 1; i > 0; --i) scratch.first[i] = scratch.first[i - 1];
  scratch.first[0] = 0;
}

}  // namespace

// The rows of `all` in the order of the experts.
Operand CpuBackend::gather_by_expert(const Operand& all, bool wants_floats) {
  ExpertScratch& s = *expert_scratch_;
  const auto total = static_cast<int>(s.choices.size());
  Operand out{.x = nullptr, .stride = all.k, .k = all.k, .m = total};
  const bool wants_codes = all.codes.codes != nullptr;
  float* x = wants_floats ? s.inputs.at_least(total * all.k) : nullptr;
  out.x = x;
  if (wants_codes)
    out.codes = QuantizedRows::in(aligned(s.codes, total * QuantizedRows::bytes_per_row(all.k)), total, all.k);
  for_rows(total, all.k / 16, [&](int i, int) {
    const auto index = static_cast<size_t>(i);
    const int from = s.choices[index].row, to = s.place[index];
    if (x) std::memcpy(x + to * all.k, all.x + from * all.stride, static_cast<size_t>(all.k) * sizeof(float));
    if (wants_codes) copy_row(all.codes.from_row(from), out.codes.from_row(to));
  });
  return out;
}

void CpuBackend::multiply_experts(std::span<const int> experts, const Operand& inputs, const Operand& hidden,
                                  const FeedForwardParams& weights, float* results) {
  ExpertScratch& s = *expert_scratch_;
  const auto *gate = static_cast<const CpuWeight*>(weights.gate), *up = static_cast<const CpuWeight*>(weights.up),
             *down = static_cast<const CpuWeight*>(weights.down);
  const int64_t d = down->rows();
  s.operands.clear(), s.gated.clear(), s.down.clear();
  s.operands.reserve(2 * s.rows_of.size());  // the products point at them
  for (const int expert : experts) {
    const int begin = s.first[static_cast<size_t>(expert)], m = s.rows_of[static_cast<size_t>(expert)];
    const Operand& expert_in = s.operands.emplace_back(inputs.rows(begin, m));
    const Operand& expert_hidden = s.operands.emplace_back(hidden.rows(begin, m));
    s.gated.push_back({&expert_in, gate, up, expert, const_cast<float*>(expert_hidden.x), expert_hidden.codes});
    s.down.push_back({&expert_hidden, down, expert, results + begin * d, d, {}});
  }
  multiply_gated(s.gated, activation_of(weights.glu));
  multiply(s.down);
}

void CpuBackend::experts(const LinearInput& in, const ExpertParams& params, Rows x, float scale) {
  ExpertScratch& s = *expert_scratch_;
  const auto *gate = static_cast<const CpuWeight*>(params.experts.gate),
             *up = static_cast<const CpuWeight*>(params.experts.up),
             *down = static_cast<const CpuWeight*>(params.experts.down),
             *router = static_cast<const CpuWeight*>(params.router);
  const bool experts_float = gate->format().is_float() || up->format().is_float();
  const bool any_codes = !gate->format().is_float() || !up->format().is_float() || !router->format().is_float();
  const Operand operand = prepare(in, experts_float || router->format().is_float(), any_codes);
  const int n_experts = static_cast<int>(router->rows());
  float* logits = s.logits.at_least(int64_t{in.x.n} * n_experts);
  const Product route{&operand, router, 0, logits, n_experts, {}};
  multiply({&route, 1});
  s.choices.clear();
  for (int r = 0; r < in.x.n; ++r) choose(logits + int64_t{r} * n_experts, n_experts, r, params, s);
  sort_by_expert(n_experts, s);
  s.needed.clear(), s.rows_of.clear();
  for (int expert = 0; expert < n_experts; ++expert) {
    const auto index = static_cast<size_t>(expert);
    s.rows_of.push_back(s.first[index + 1] - s.first[index]);
    if (s.rows_of.back() > 0) s.needed.push_back(expert);
  }
  if (params.source) params.source->request(params.layer, in.x.n, s.rows_of);

  const Operand inputs = gather_by_expert(operand, experts_float);
  const Operand hidden = hidden_rows(inputs.m, *down);
  const int64_t d = down->rows();
  float* results = s.results.at_least(inputs.m * d);
  if (params.source) {
    for (auto some = params.source->ready(); !some.empty(); some = params.source->ready())
      multiply_experts(some, inputs, hidden, params.experts, results);
  } else {
    multiply_experts(s.needed, inputs, hidden, params.experts, results);
  }
  reserve(thread_floats_, d);
  for_rows(x.n, params.n_used * d / 2, [&](int r, int thread) {
    float* sum = thread_floats_[static_cast<size_t>(thread)].at_least(d);
    std::fill(sum, sum + d, 0.0f);
    for (int rank = 0; rank < params.n_used; ++rank) {
      const auto index = static_cast<size_t>(r * params.n_used + rank);
      const float weight = s.choices[index].weight;
      const float* from = results + s.place[index] * d;
      for (int64_t i = 0; i < d; ++i) sum[i] += weight * from[i];
    }
    add_scaled(floats(x) + r * x.stride, sum, d, scale);
  });
}

}  // namespace hearth::cpu
