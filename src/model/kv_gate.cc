#include "model/kv_gate.h"

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <vector>

#include "base/json.h"
#include "base/mapped_file.h"
#include "model/kv_gate_text.h"
#include "model/sequence.h"

namespace hearth {
namespace {

namespace json = boost::json;

constexpr size_t kTokensMax = 512;
constexpr int kStep = 16;  // rows whose logits are kept at once
// Of the measurement; another text, bound or arithmetic of pages is another version.
constexpr int64_t kVersion = 1;

// One sequence with keys and values of one type.
class Run {
 public:
  static Result<Run> create(const Model& model, KvType type, int positions) {
    auto store = TRY(SequenceStore::create(*model.backend, model.decoder->config(),
                                           {.kv_type = type, .positions_max = positions, .sequences_max = 1}));
    const SequenceId id = TRY(store->open());
    return Run(*model.decoder, std::move(store), id);
  }
  // The logits of all rows.
  Result<std::span<float>> step(std::span<const Token> tokens, bool wants_logits) {
    const int count = static_cast<int>(tokens.size());
    TRY(store_->reserve(id_, count));
    const SequenceRows rows = store_->rows(id_, 0, count);
    decoder_->run({.tokens = tokens, .sequences = {&rows, 1}}, *store_);
    store_->advance(id_, count);
    if (!wants_logits) return std::span<float>();
    std::vector<int32_t> wanted(tokens.size());
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = static_cast<int32_t>(i);
    logits_.resize(wanted.size() * static_cast<size_t>(decoder_->config().n_vocab));
    decoder_->logits(wanted, logits_);
    return std::span(logits_);
  }

 private:
  Run(Decoder& decoder, std::unique_ptr<SequenceStore> store, SequenceId id)
      : decoder_(&decoder), store_(std::move(store)), id_(id) {}
  Decoder* decoder_;
  std::unique_ptr<SequenceStore> store_;
  SequenceId id_;
  std::vector<float> logits_;
};

void to_log_probabilities(std::span<float> logits) {
  const float top = *std::ranges::max_element(logits);
  double total = 0.0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit - top));
  const float shift = top + static_cast<float>(std::log(total));
  for (float& logit : logits) logit -= shift;
}

double divergence(std::span<const float> exact, std::span<const float> other) {
  double sum = 0.0;
  for (size_t i = 0; i < exact.size(); ++i)
    sum += std::exp(static_cast<double>(exact[i])) * static_cast<double>(exact[i] - other[i]);
  return sum;
}

json::object remembered(const std::filesystem::path& memory) {
  const auto text = memory.empty() ? fail(Code::kNotFound, "") : read_file(memory, limits::kJsonFileBytes);
  if (!text) return {};
  const auto value = parse_json(*text);
  if (!value || !value->is_object()) return {};
  const json::object& object = value->as_object();
  const json::value* version = object.if_contains("version");
  return version && *version == kVersion ? object : json::object();
}

// A model read at fewer bits is another one to measure.
std::string remembered_as(const Model& model, KvType type) {
  const std::string precision = model.decoder->precision();
  return precision == "8" ? std::string(name(type)) : fmt::format("{} at {}", name(type), precision);
}

std::optional<KvLoss> loss_of(const json::object& memory, std::string_view key) {
  const json::value* entry = memory.if_contains(key);
  if (!entry || !entry->is_object()) return std::nullopt;
  const json::value *kld = entry->as_object().if_contains("mean_kld"),
                    *change = entry->as_object().if_contains("perplexity_change");
  if (!kld || !change || !kld->is_double() || !change->is_double()) return std::nullopt;
  return KvLoss{kld->as_double(), change->as_double()};
}

// What was measured before, or is now and kept if it can be: a disk that is full only costs the time again.
Result<KvLoss> known_loss(const Model& model, KvType type, const KvGateOptions& options) {
  json::object memory = remembered(options.memory);
  const std::string key = remembered_as(model, type);
  if (const auto loss = loss_of(memory, key)) return *loss;
  const auto tell = [&](const std::string& what) {
    if (options.tell) options.tell(fmt::format("keys and values in {}: {}", name(type), what));
  };
  tell("measuring what they do to this model, once");
  const KvLoss loss = TRY(measure_kv_loss(model, type));
  tell(fmt::format("a mean divergence of {:.5f} from f16, perplexity {:+.2f} %", loss.mean_kld,
                   100.0 * loss.perplexity_change));
  if (options.memory.empty() || !std::isfinite(loss.mean_kld) || !std::isfinite(loss.perplexity_change)) return loss;
  memory["version"] = kVersion;
  memory[key] = {{"mean_kld", loss.mean_kld}, {"perplexity_change", loss.perplexity_change}};
  const std::string text = json::serialize(memory) + "\n";
  (void)write_file_atomically(options.memory, std::as_bytes(std::span(text)));
  return loss;
}

}  // namespace

Result<KvLoss> measure_kv_loss(const Model& model, KvType type) {
  const Tokenizer& tokenizer = *model.text.tokenizer;
  std::vector<Token> tokens = tokenizer.encode(kKvGateText, {.parse_special = false, .add_bos = true});
  tokens.resize(std::min({tokens.size(), kTokensMax, static_cast<size_t>(model.decoder->context())}));
  if (tokens.size() < 2) return fail(Code::kUnsupported, "the model's tokenizer makes no tokens of a plain text");
  const auto n_vocab = static_cast<size_t>(model.decoder->config().n_vocab);
  Run exact = TRY(Run::create(model, KvType::kF16, static_cast<int>(tokens.size())));
  Run other = TRY(Run::create(model, type, static_cast<int>(tokens.size())));
  const size_t first = tokens.size() / 2, n_steps = static_cast<size_t>(std::min(kStep, model.decoder->rows_max()));
  double kld = 0.0, more_loss = 0.0;
  for (size_t done = 0; done + 1 < tokens.size();) {
    const bool counts = done >= first;
    const size_t count = std::min(n_steps, (counts ? tokens.size() - 1 : first) - done);
    const auto part = std::span(tokens).subspan(done, count);
    const std::span<float> a = TRY(exact.step(part, counts)), b = TRY(other.step(part, counts));
    for (size_t row = 0; row < count && counts; ++row) {
      const auto p = a.subspan(row * n_vocab, n_vocab), q = b.subspan(row * n_vocab, n_vocab);
      to_log_probabilities(p);
      to_log_probabilities(q);
      kld += divergence(p, q);
      const auto next = static_cast<size_t>(tokens[done + row + 1]);
      more_loss += static_cast<double>(p[next] - q[next]);
    }
    done += count;
  }
  const auto n = static_cast<double>(tokens.size() - 1 - first);
  return KvLoss{.mean_kld = kld / n, .perplexity_change = std::expm1(more_loss / n)};
}

Result<KvType> choose_kv_type(const Model& model, std::string_view wanted, const KvGateOptions& options) {
  if (wanted == "auto") {
    for (size_t i = std::size(kAllKvTypes); i-- > 1;)
      if (passes(TRY(known_loss(model, kAllKvTypes[i], options)))) return kAllKvTypes[i];
    return KvType::kF16;
  }
  const KvType type = TRY(parse_kv_type(wanted));
  if (type != KvType::kI4 || options.open) return type;  // 8 bits and more are taken as told
  const KvLoss loss = TRY(known_loss(model, type, options));
  if (passes(loss)) return type;
  return fail(Code::kUnsupported,
              "keys and values in {} change this model's answers too much: a mean divergence from f16 of {:.4f} ({} at "
              "most), perplexity {:+.2f} %; use --kv-type auto, or --kv-gate off to insist",
              wanted, loss.mean_kld, kKvKldMax, 100.0 * loss.perplexity_change);
}

Result<KvType> planned_kv_type(std::string_view wanted) {
  return wanted == "auto" ? KvType::kF16 : TRY(parse_kv_type(wanted));
}

}  // namespace hearth
