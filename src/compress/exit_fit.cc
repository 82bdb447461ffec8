#include "compress/exit_fit.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "compress/divergence.h"
#include "compress/float_product.h"
#include "model/decoder.h"

namespace hearth::compress {
namespace {

constexpr int kUsualExits = 8;
constexpr int kLogitRows = 4;              // whose logits are held at once
constexpr double kDoubtFloor = 1e-3;       // divergences below count alike
constexpr int64_t kMomentBytes = 1 << 30;  // of all exits
constexpr int kTries = 5;                  // at a threshold that keeps to a bound

using Rows32 = std::vector<int32_t>;
Rows32 rows_from(int first, int end) {
  Rows32 rows;
  for (int i = first; i < end; ++i) rows.push_back(i);
  return rows;
}

// A sequence of the decoder, from its start for each piece of a text.
class Reader {
 public:
  static Result<Reader> create(const Model& model, KvType kv_type, int positions) {
    auto store = TRY(SequenceStore::create(*model.backend, model.decoder->config(),
                                           {.kv_type = kv_type, .positions_max = positions, .sequences_max = 1}));
    const SequenceId id = TRY(store->open());
    return Reader(*model.decoder, std::move(store), id);
  }

  struct How {
    ExitPolicy policy{};
    const ExitHead* stop_at = nullptr;
    const FunctionRef<void(int)>* watch = nullptr;
  };
  // Final hidden states of the piece's rows from `first` on, and how many of them left early.
  Result<std::vector<float>> read(std::span<const Token> piece, int first, const How& how, int* left = nullptr) {
    store_->truncate(id_, 0);
    const auto d = static_cast<size_t>(decoder_->config().d_model);
    std::vector<float> out;
    const int step = decoder_->rows_max(), n = static_cast<int>(piece.size());
    for (int done = 0; done < n; done += step) {
      const int count = std::min(step, n - done);
      TRY(run(piece.subspan(static_cast<size_t>(done), static_cast<size_t>(count)), how));
      const int from = std::max(0, first - done);
      if (from >= count) continue;
      const size_t before = out.size();
      out.resize(before + static_cast<size_t>(count - from) * d);
      decoder_->hidden(rows_from(from, count), std::span(out).subspan(before));
      for (int row = from; left && row < count; ++row) *left += decoder_->left_early(row) ? 1 : 0;
    }
    return out;
  }
  Result<void> run(std::span<const Token> tokens, const How& how) {
    const int count = static_cast<int>(tokens.size());
    TRY(store_->reserve(id_, count));
    const SequenceRows rows = store_->rows(id_, 0, count);
    Batch batch{.tokens = tokens, .sequences = {&rows, 1}};
    if (how.policy.layers > 0) batch.exits = {&how.policy, 1};
    batch.stop_at = how.stop_at;
    batch.watch = how.watch;
    decoder_->run(batch, *store_);
    store_->advance(id_, count);
    return {};
  }
  void restart() { store_->truncate(id_, 0); }

 private:
  Reader(Decoder& decoder, std::unique_ptr<SequenceStore> store, SequenceId id)
      : decoder_(&decoder), store_(std::move(store)), id_(id) {}
  Decoder* decoder_;
  std::unique_ptr<SequenceStore> store_;
  SequenceId id_;
};

// Of an exit: sums over rows of (n, 1)^T (n, 1, change), for n the normed stream and the change to the final hidden state.
struct ExitSums {
  std::unique_ptr<Buffer> sums, left;
};

class Fitter {
 public:
  Fitter(const Model& model, const ExitTexts& texts, const ExitFitOptions& options)
      : model_(model),
        decoder_(*model.decoder),
        backend_(*model.backend),
        texts_(texts),
        options_(options),
        d_(decoder_.config().d_model),
        n_vocab_(static_cast<size_t>(decoder_.config().n_vocab)),
        pool_(options.n_threads) {}

  Result<ExitFit> fit() {
    TRY(check_can_exit(decoder_, options_.kv_type));
    TRY(choose_layers());
    const auto pieces = {&texts_.fit, &texts_.tune, &texts_.judge};
    if (std::ranges::any_of(pieces, [](const Chunks* chunks) { return chunks->size() < 2; }))
      return fail(Code::kInvalidArgument, "the text is too short: {}, {} and {} pieces to fit, tune and judge on",
                  texts_.fit.size(), texts_.tune.size(), texts_.judge.size());
    piece_ = static_cast<int>(texts_.fit.front().size());
    reader_.emplace(TRY(Reader::create(model_, options_.kv_type, piece_)));
    ExitFit out;
    out.file = {.model = TRY(exits_bound_to(*model_.checkpoint)),
                .precision = decoder_.precision(),
                .kv_type = std::string(name(options_.kv_type)),
                .maps = TRY(fit_maps()),
                .bounds = {}};
    TRY(install(out.file));
    TRY(fit_doubts(out.file));
    TRY(install(out.file));
    TRY(judge_trades(out));
    for (const double bound : options_.bounds) {
      tell("bounds", static_cast<double>(out.file.bounds.size()) / static_cast<double>(options_.bounds.size()));
      if (const auto found = TRY(keep_bound(out.file, bound))) out.file.bounds.push_back(*found);
    }
    TRY(time_steps(out));
    decoder_.use_exits(nullptr);
    return out;
  }

 private:
  // A tuned row: the divergence of each exit's guess, and how much it is doubted.
  struct Tuned {
    std::vector<float> kld, doubt;  // of one exit, one per row
  };

  void tell(std::string_view what, double share) const {
    if (options_.progress) options_.progress(what, share);
  }

  Result<void> choose_layers() {
    const int n = decoder_.config().n_layers();
    layers_ = options_.layers;
    if (layers_.empty())
      for (int i = 0; i < kUsualExits; ++i) layers_.push_back(n - 1 - i * std::max(1, n / (kUsualExits + 1)));
    std::erase_if(layers_, [&](int layers) { return options_.layers.empty() && layers < 1; });
    std::ranges::sort(layers_);
    layers_.erase(std::ranges::unique(layers_).begin(), layers_.end());
    for (const int layers : layers_)
      if (layers < 1 || layers >= n)
        return fail(Code::kInvalidArgument, "--layers {}: an exit is behind 1 to {} of the model's {} layers", layers,
                    n - 1, n);
    const int64_t bytes = static_cast<int64_t>(layers_.size()) * 4 * (d_ + 1) * (2 * d_ + 1);
    if (bytes > kMomentBytes)
      return fail(Code::kLimit, "{} exits of a model {} wide need {} MiB, the limit is {}; name fewer with --layers",
                  layers_.size(), d_, bytes >> 20, kMomentBytes >> 20);
    return {};
  }

  Result<void> install(const ExitFile& file) {
    decoder_.use_exits(nullptr);
    heads_ = TRY(ExitHeads::create(file, decoder_, backend_));
    decoder_.use_exits(heads_.get());
    return {};
  }

  // The normed stream behind each exit's layers, and final hidden states, of one piece of text; by columns, a last one of ones.
  Result<std::vector<ExitMap>> fit_maps() {
    std::vector<ExitSums> moments(layers_.size());
    for (ExitSums& each : moments) {
      each.sums = TRY(backend_.allocate(4 * (d_ + 1) * (2 * d_ + 1)));
      each.left = TRY(backend_.allocate(4 * (d_ + 1) * piece_));
    }
    for (size_t i = 0; i < texts_.fit.size(); ++i) {
      tell("fitting", static_cast<double>(i) / static_cast<double>(texts_.fit.size()));
      std::vector<std::vector<float>> streams;
      const std::vector<float> final = TRY(read_streams(texts_.fit[i], 0, streams));
      for (size_t e = 0; e < layers_.size(); ++e) TRY(add_moments(streams[e], final, moments[e]));
    }
    std::vector<ExitMap> maps;
    for (size_t e = 0; e < layers_.size(); ++e) {
      tell("solving", static_cast<double>(e) / static_cast<double>(layers_.size()));
      maps.push_back(TRY(solve(layers_[e], *moments[e].sums)));
      moments[e] = {};
    }
    return maps;
  }

  // Rows of a piece from `first` on: streams[e] behind the layers of exit e, normed; returned are the final ones.
  Result<std::vector<float>> read_streams(std::span<const Token> piece, int first,
                                          std::vector<std::vector<float>>& streams) {
    streams.assign(layers_.size(), {});
    int done = 0, count = 0;
    const auto take = [&](int layers) {
      const auto exit = std::ranges::find(layers_, layers);
      if (exit == layers_.end()) return;
      const int from = std::max(0, first - done);
      if (from >= count) return;
      std::vector<float>& stream = streams[static_cast<size_t>(exit - layers_.begin())];
      const size_t before = stream.size();
      stream.resize(before + static_cast<size_t>((count - from) * d_));
      decoder_.hidden(rows_from(from, count), std::span(stream).subspan(before));
    };
    const FunctionRef<void(int)> watch(take);
    std::vector<float> final;
    reader_->restart();
    for (; done < piece_; done += count) {
      count = std::min(decoder_.rows_max(), piece_ - done);
      TRY(reader_->run(piece.subspan(static_cast<size_t>(done), static_cast<size_t>(count)), {.watch = &watch}));
      const int from = std::max(0, first - done);
      if (from >= count) continue;
      const size_t before = final.size();
      final.resize(before + static_cast<size_t>((count - from) * d_));
      decoder_.hidden(rows_from(from, count), std::span(final).subspan(before));
    }
    return final;
  }

  Result<void> add_moments(std::span<const float> stream, std::span<const float> final, ExitSums& moments) {
    const int64_t n = static_cast<int64_t>(stream.size()) / d_;
    std::vector<float> columns(static_cast<size_t>((2 * d_ + 1) * n), 1.0f);
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < d_; ++c) {
        const float x = stream[static_cast<size_t>(r * d_ + c)];
        columns[static_cast<size_t>(c * n + r)] = x;
        columns[static_cast<size_t>((d_ + 1 + c) * n + r)] = final[static_cast<size_t>(r * d_ + c)] - x;
      }
    backend_.upload(*moments.left, 0, std::as_bytes(std::span(columns).first(static_cast<size_t>((d_ + 1) * n))));
    return add_product(backend_, {moments.left.get(), 0, static_cast<int>(d_ + 1), n, n}, columns, 2 * d_ + 1,
                       {moments.sums.get(), 0, static_cast<int>(d_ + 1), 2 * d_ + 1, 2 * d_ + 1});
  }

  Result<ExitMap> solve(int layers, const Buffer& sums) const {
    const auto k = static_cast<size_t>(d_ + 1), d = static_cast<size_t>(d_);
    std::vector<float> all(k * (k + d));
    backend_.download(sums, 0, std::as_writable_bytes(std::span(all)));
    std::vector<double> a(k * k), right(k * d);
    double trace = 0;
    for (size_t r = 0; r < k; ++r) {
      for (size_t c = 0; c < k; ++c) a[r * k + c] = static_cast<double>(all[r * (k + d) + c]);
      for (size_t c = 0; c < d; ++c) right[r * d + c] = static_cast<double>(all[r * (k + d) + k + c]);
      if (r < d) trace += a[r * k + r];
    }
    for (size_t r = 0; r < d; ++r) a[r * k + r] += options_.ridge * trace / static_cast<double>(d);
    if (!std::isfinite(trace) || !solve_positive(a, static_cast<int64_t>(k), right, d_))
      return fail(Code::kMalformed, "the stream behind layer {} has no map to the last one; raise --ridge", layers);
    ExitMap map{.layers = layers, .change = std::vector<float>(d * d), .bias = std::vector<float>(d), .doubt = {}};
    for (size_t out = 0; out < d; ++out) {
      for (size_t in = 0; in < d; ++in) map.change[out * d + in] = static_cast<float>(right[in * d + out]);
      map.bias[out] = static_cast<float>(right[d * d + out]);
    }
    return map;
  }

  // Log-probabilities of rows of final hidden states, a few at a time.
  void log_probabilities(std::span<const float> hidden, std::vector<float>& out) {
    const size_t n = hidden.size() / static_cast<size_t>(d_);
    out.resize(n * n_vocab_);
    decoder_.set_hidden(hidden);
    decoder_.logits(rows_from(0, static_cast<int>(n)), out);
    pool_.parallel_for(static_cast<int64_t>(n), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r)
        log_softmax(std::span(out).subspan(static_cast<size_t>(r) * n_vocab_, n_vocab_));
    });
  }

  // Calls f(which, ours, reference) with log-probabilities of every row, for several guesses of the same rows.
  template <typename F>
  void compare(std::span<const float> reference, std::span<const std::vector<float>> guesses, F f) {
    std::vector<float> exact, other;
    const auto step = static_cast<size_t>(kLogitRows * d_);
    for (size_t at = 0; at < reference.size(); at += step) {
      const size_t count = std::min(step, reference.size() - at), n = count / static_cast<size_t>(d_);
      log_probabilities(reference.subspan(at, count), exact);
      for (size_t g = 0; g < guesses.size(); ++g) {
        log_probabilities(std::span(guesses[g]).subspan(at, count), other);
        for (size_t r = 0; r < n; ++r)
          f(g, std::span(other).subspan(r * n_vocab_, n_vocab_), std::span(exact).subspan(r * n_vocab_, n_vocab_));
      }
    }
  }

  // Of the later half of a piece, as `eval` counts: what is there when there is something to look back on.
  [[nodiscard]] int counted_from() const { return piece_ / 2; }

  // What every exit guesses of a piece.
  Result<std::vector<std::vector<float>>> guesses_of(std::span<const Token> piece) {
    std::vector<std::vector<float>> guesses;
    for (const ExitHead& head : heads_->heads())
      guesses.push_back(TRY(reader_->read(piece, counted_from(), {.stop_at = &head})));
    return guesses;
  }

  // Half of the tuning text tells how divergences show in the stream, the other half how well; the best damping of a few is taken.
  Result<void> fit_doubts(ExitFile& file) {
    std::vector<std::vector<float>> klds(layers_.size()), streams(layers_.size());
    for (size_t i = 0; i < texts_.tune.size(); ++i) {
      tell("tuning", static_cast<double>(i) / static_cast<double>(texts_.tune.size()));
      std::vector<std::vector<float>> some;
      const std::vector<float> reference = TRY(read_streams(texts_.tune[i], counted_from(), some));
      const auto guesses = TRY(guesses_of(texts_.tune[i]));
      compare(reference, guesses, [&](size_t exit, auto ours, auto exact) {
        klds[exit].push_back(static_cast<float>(divergence_of_row(ours, exact)));
      });
      for (size_t e = 0; e < layers_.size(); ++e) streams[e].insert(streams[e].end(), some[e].begin(), some[e].end());
    }
    tuned_.resize(layers_.size());
    for (size_t e = 0; e < layers_.size(); ++e) TRY(fit_doubt(streams[e], klds[e], file.maps[e], tuned_[e]));
    return {};
  }

  Result<void> fit_doubt(std::span<const float> streams, std::span<const float> klds, ExitMap& map,
                         Tuned& tuned) const {
    const size_t half = klds.size() / 2, d = static_cast<size_t>(d_), k = d + 1;
    std::vector<double> moments(k * k), target(k), row(k, 1.0);
    for (size_t r = 0; r < half; ++r) {
      for (size_t c = 0; c < d; ++c) row[c] = static_cast<double>(streams[r * d + c]);
      const double y = std::log(static_cast<double>(klds[r]) + kDoubtFloor);
      for (size_t i = 0; i < k; ++i) {
        for (size_t c = 0; c < k; ++c) moments[i * k + c] += row[i] * row[c];
        target[i] += row[i] * y;
      }
    }
    double trace = 0, best = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < d; ++i) trace += moments[i * k + i];
    tuned.kld.assign(klds.begin() + static_cast<ptrdiff_t>(half), klds.end());
    for (const double damping : {0.01, 0.1, 1.0, 10.0}) {
      std::vector<double> a = moments, x = target;
      for (size_t i = 0; i < d; ++i) a[i * k + i] += damping * trace / static_cast<double>(d);
      if (!solve_positive(a, static_cast<int64_t>(k), x, 1)) continue;
      double error = 0;
      std::vector<float> doubts;
      for (size_t r = half; r < klds.size(); ++r) {
        double doubt = x[d];
        for (size_t c = 0; c < d; ++c) doubt += x[c] * static_cast<double>(streams[r * d + c]);
        const double off = doubt - std::log(static_cast<double>(klds[r]) + kDoubtFloor);
        error += off * off;
        doubts.push_back(static_cast<float>(doubt));
      }
      if (!(error < best)) continue;
      best = error;
      map.doubt.assign(x.begin(), x.end());
      tuned.doubt = std::move(doubts);
    }
    if (map.doubt.empty()) return fail(Code::kMalformed, "the divergences behind layer {} are no numbers", map.layers);
    return {};
  }

  // Of the bytes of weights a token reads, what one that left after `layers` layers does not.
  [[nodiscard]] double saved_bytes(int layers) const {
    double all = decoder_.read_bytes(decoder_.config().n_layers()), saved = 0;
    for (int i = 0; i < decoder_.config().n_layers(); ++i) {
      all += decoder_.read_bytes(i);
      if (i >= layers) saved += decoder_.read_bytes(i) - decoder_.read_bytes(i, true);
    }
    return (saved - static_cast<double>(heads_->after(layers)->change->bytes())) / all;
  }

  Result<void> judge_trades(ExitFit& out) {
    std::vector<Divergence> divergences(layers_.size());
    for (size_t i = 0; i < texts_.judge.size(); ++i) {
      tell("judging", static_cast<double>(i) / static_cast<double>(texts_.judge.size()));
      const auto reference = TRY(reader_->read(texts_.judge[i], counted_from(), {}));
      const auto guesses = TRY(guesses_of(texts_.judge[i]));
      compare(reference, guesses, [&](size_t exit, auto ours, auto exact) { divergences[exit].add(ours, exact); });
    }
    const auto tokens = [&](const Chunks& chunks) {
      return chunks.size() * static_cast<size_t>(piece_ - counted_from());
    };
    out.report = {.n_layers = decoder_.config().n_layers(),
                  .fit_tokens = texts_.fit.size() * static_cast<size_t>(piece_),
                  .tune_tokens = tokens(texts_.tune),
                  .judged_tokens = tokens(texts_.judge),
                  .trades = {}};
    for (size_t e = 0; e < layers_.size(); ++e) {
      out.file.maps[e].same_top = static_cast<float>(divergences[e].same_top());
      out.report.trades.push_back({.layers = layers_[e],
                                   .mean_kld = divergences[e].mean(),
                                   .kld_p99 = divergences[e].percentile(0.99),
                                   .same_top = divergences[e].same_top(),
                                   .saved = saved_bytes(layers_[e])});
    }
    return {};
  }

  // The threshold with which most tokens leave at an exit while what they diverge adds up to no more than the bound, by the guesses
  // alone, and how many do.
  [[nodiscard]] std::pair<float, double> threshold_for(const Tuned& tuned, double bound) const {
    std::vector<size_t> order(tuned.kld.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::sort(order, {}, [&](size_t i) { return tuned.doubt[i]; });
    const auto n = static_cast<double>(order.size());
    std::pair<float, double> best{-std::numeric_limits<float>::infinity(), 0.0};
    double sum = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      sum += static_cast<double>(tuned.kld[order[i]]);
      if (sum <= bound * n) best = {tuned.doubt[order[i]], static_cast<double>(i + 1) / n};
    }
    return best;
  }

  // What tokens that leave under a policy, keys and values included, come to on pieces of text.
  Result<ExitBound> measure(std::span<const std::vector<Token>> pieces, const ExitPolicy& policy) {
    Divergence divergence;
    int left = 0;
    for (const auto& piece : pieces) {
      const auto reference = TRY(reader_->read(piece, counted_from(), {}));
      const std::vector<std::vector<float>> ours{TRY(reader_->read(piece, counted_from(), {.policy = policy}, &left))};
      compare(reference, ours, [&](size_t, auto other, auto exact) { divergence.add(other, exact); });
    }
    const double exited = static_cast<double>(left) / static_cast<double>(divergence.rows());
    return ExitBound{.bound = 0,
                     .layers = policy.layers,
                     .threshold = policy.threshold,
                     .mean_kld = divergence.mean(),
                     .same_top = divergence.same_top(),
                     .exited = exited,
                     .saved = exited * saved_bytes(policy.layers)};
  }

  // The exit and the threshold that save most within a bound. Guesses alone promise too much: keys and values of tokens that left are
  // not what they were. So the threshold is lowered until the tuning text keeps to the bound, and then judged on the last text.
  Result<std::optional<ExitBound>> keep_bound(const ExitFile& file, double bound) {
    size_t best = 0;
    double most = 0;
    for (size_t e = 0; e < layers_.size(); ++e) {
      const double saved = threshold_for(tuned_[e], bound).second * saved_bytes(layers_[e]);
      if (saved > most) most = saved, best = e;
    }
    if (most <= 0) return std::optional<ExitBound>();
    const auto half = std::span(texts_.tune).subspan(texts_.tune.size() / 2);
    double aim = bound;
    for (int i = 0; i < kTries; ++i) {
      const ExitPolicy policy{file.maps[best].layers, threshold_for(tuned_[best], aim).first};
      if (!std::isfinite(policy.threshold)) break;  // nobody may leave
      const ExitBound tuned = TRY(measure(half, policy));
      if (tuned.mean_kld > bound) {
        aim *= std::min(0.8, 0.9 * bound / tuned.mean_kld);
        continue;
      }
      ExitBound judged = TRY(measure(texts_.judge, policy));
      judged.bound = bound;
      return std::optional(judged);
    }
    return std::optional<ExitBound>();
  }

  // Single steps with and without, by turns, each token once.
  Result<void> time_steps(ExitFit& out) {
    const auto chosen = out.file.choose(options_.bounds.back());
    if (!chosen) return {};
    std::array<double, 2> seconds{};
    const auto& piece = texts_.judge.front();
    std::array<Reader, 2> readers{TRY(Reader::create(model_, options_.kv_type, piece_)),
                                  TRY(Reader::create(model_, options_.kv_type, piece_))};
    for (const Token& token : piece)
      for (size_t i = 0; i < 2; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        const Reader::How how{.policy = i == 0 ? ExitPolicy{} : ExitPolicy{chosen->layers, chosen->threshold}};
        TRY(readers[i].run({&token, 1}, how));
        int32_t row = 0, top = 0;
        float logit = 0;
        decoder_.most_likely({&row, 1}, 1, {&top, 1}, {&logit, 1});
        seconds[i] += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      }
    out.report.step_ratio = seconds[0] / seconds[1];
    return {};
  }

  const Model& model_;
  Decoder& decoder_;
  Backend& backend_;
  const ExitTexts& texts_;
  const ExitFitOptions& options_;
  const int64_t d_;
  const size_t n_vocab_;
  ThreadPool pool_;
  int piece_ = 0;
  std::vector<int> layers_;
  std::unique_ptr<ExitHeads> heads_;
  std::optional<Reader> reader_;
  std::vector<Tuned> tuned_;
};

}  // namespace

bool solve_positive(std::span<double> a, int64_t k, std::span<double> right, int64_t n) {
  const auto subtract = [](double* to, const double* from, double times, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] -= times * from[i];
  };
  for (int64_t j = 0; j < k; ++j) {
    double* row = a.data() + j * k;
    if (!(row[j] > 0)) return false;
    const double scale = 1 / std::sqrt(row[j]);
    for (int64_t c = j; c < k; ++c) row[c] *= scale;
    double* own = right.data() + j * n;
    for (int64_t c = 0; c < n; ++c) own[c] *= scale;
    for (int64_t i = j + 1; i < k; ++i) {
      subtract(a.data() + i * k + i, row + i, row[i], k - i);
      subtract(right.data() + i * n, own, row[i], n);
    }
  }
  for (int64_t j = k; j-- > 0;) {
    double* own = right.data() + j * n;
    const double* row = a.data() + j * k;
    for (int64_t i = j + 1; i < k; ++i) subtract(own, right.data() + i * n, row[i], n);
    for (int64_t c = 0; c < n; ++c) own[c] /= row[j];
  }
  return true;
}

Result<ExitFit> fit_exits(const Model& model, const ExitTexts& texts, const ExitFitOptions& options) {
  return Fitter(model, texts, options).fit();
}

}  // namespace hearth::compress
