#include "compress/sparsity.h"

#include <algorithm>
#include <cmath>

#include "compress/divergence.h"
#include "model/decoder.h"

namespace hearth::compress {
namespace {

constexpr int64_t kBlock = 32;

// Leaves the smallest out, and counts the blocks of which nothing stays.
class Thinner {
 public:
  explicit Thinner(double share) : share_(share) {}
  void thin(std::span<float> hidden, int64_t k) {
    for (size_t at = 0; at < hidden.size(); at += static_cast<size_t>(k)) {
      const auto row = hidden.subspan(at, static_cast<size_t>(k));
      sizes_.assign(row.begin(), row.end());
      for (float& size : sizes_) size = std::abs(size);
      const auto out = static_cast<ptrdiff_t>(share_ * static_cast<double>(k));
      std::ranges::nth_element(sizes_, sizes_.begin() + out);
      const float least = sizes_[static_cast<size_t>(out)];
      for (int64_t block = 0; block < k; block += kBlock) {
        bool empty = true;
        for (int64_t i = block; i < std::min(k, block + kBlock); ++i) {
          float& value = row[static_cast<size_t>(i)];
          if (std::abs(value) < least) value = 0;
          empty = empty && value == 0;
        }
        empty_ += empty ? 1 : 0, ++blocks_;
      }
    }
  }
  [[nodiscard]] double empty_blocks() const {
    return blocks_ == 0 ? 0 : static_cast<double>(empty_) / static_cast<double>(blocks_);
  }

 private:
  double share_;
  std::vector<float> sizes_;
  int64_t empty_ = 0, blocks_ = 0;
};

// Log-probabilities of the later half of a piece.
Result<std::vector<float>> read(const Model& model, SequenceStore& store, SequenceId id, std::span<const Token> piece,
                                ThreadPool& pool) {
  Decoder& decoder = *model.decoder;
  const auto n_vocab = static_cast<size_t>(decoder.config().n_vocab);
  store.truncate(id, 0);
  std::vector<float> out;
  for (size_t done = 0; done < piece.size();) {
    const bool counts = done >= piece.size() / 2;
    const size_t end = counts ? piece.size() : piece.size() / 2;
    const int count = std::min(decoder.rows_max(), static_cast<int>(end - done));
    TRY(store.reserve(id, count));
    const SequenceRows rows = store.rows(id, 0, count);
    decoder.run({.tokens = piece.subspan(done, static_cast<size_t>(count)), .sequences = {&rows, 1}}, store);
    store.advance(id, count);
    done += static_cast<size_t>(count);
    if (!counts) continue;
    std::vector<int32_t> wanted(static_cast<size_t>(count));
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = static_cast<int32_t>(i);
    const size_t before = out.size();
    out.resize(before + wanted.size() * n_vocab);
    decoder.logits(wanted, std::span(out).subspan(before));
    pool.parallel_for(count, 1, [&](int64_t from, int64_t to, int) {
      for (int64_t r = from; r < to; ++r)
        log_softmax(std::span(out).subspan(before + static_cast<size_t>(r) * n_vocab, n_vocab));
    });
  }
  return out;
}

}  // namespace

Result<std::vector<SparsityTrade>> measure_sparsity(const Model& model, RecordingBackend& recorder,
                                                    const Chunks& pieces, std::span<const double> shares, int n_threads,
                                                    const std::function<void(double share)>& progress) {
  const Decoder& decoder = *model.decoder;
  double all = decoder.read_bytes(decoder.config().n_layers()), down = 0;
  for (int i = 0; i < decoder.config().n_layers(); ++i) {
    if (decoder.config().layers[static_cast<size_t>(i)].n_experts > 0)
      return fail(Code::kUnsupported, "a mixture of experts: its experts' activations are not seen");
    all += decoder.read_bytes(i);
    const TensorRef* tensor = model.checkpoint->find_tensor(fmt::format("blk.{}.ffn_down.weight", i));
    if (tensor) down += static_cast<double>(tensor->stored_bytes());
  }
  const int positions = static_cast<int>(pieces.empty() ? 1 : pieces.front().size());
  auto store = TRY(SequenceStore::create(recorder, decoder.config(),
                                         {.kv_type = KvType::kF16, .positions_max = positions, .sequences_max = 1}));
  const SequenceId id = TRY(store->open());
  const auto n_vocab = static_cast<size_t>(decoder.config().n_vocab);
  ThreadPool pool(n_threads);
  std::vector<Thinner> thinners;
  std::vector<Divergence> divergences(shares.size());
  for (const double share : shares) thinners.emplace_back(share);
  for (size_t p = 0; p < pieces.size(); ++p) {
    const std::vector<float> exact = TRY(read(model, *store, id, pieces[p], pool));
    for (size_t s = 0; s < shares.size(); ++s) {
      progress(static_cast<double>(p * shares.size() + s) / static_cast<double>(pieces.size() * shares.size()));
      recorder.change_hidden([&](std::span<float> hidden, int64_t k) { thinners[s].thin(hidden, k); });
      const std::vector<float> ours = TRY(read(model, *store, id, pieces[p], pool));
      recorder.change_hidden({});
      for (size_t at = 0; at < exact.size(); at += n_vocab)
        divergences[s].add(std::span(ours).subspan(at, n_vocab), std::span(exact).subspan(at, n_vocab));
    }
  }
  std::vector<SparsityTrade> trades;
  for (size_t s = 0; s < shares.size(); ++s)
    trades.push_back({.share = shares[s],
                      .mean_kld = divergences[s].mean(),
                      .same_top = divergences[s].same_top(),
                      .blocks = thinners[s].empty_blocks(),
                      .saved_columns = shares[s] * down / all,
                      .saved_blocks = thinners[s].empty_blocks() * down / all});
  return trades;
}

}  // namespace hearth::compress
