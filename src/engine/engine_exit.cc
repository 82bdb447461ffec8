// Tokens that leave the model early, where a request allows it.
#include "engine/engine_active.h"
#include "engine/exit_draft.h"

namespace hearth {

Result<void> Engine::use_exits() {
  if (!options_.exits) return {};
  if (options_.chain) return fail(Code::kInvalidArgument, "exit heads are for models whose layers are here");
  Decoder& decoder = *model_.decoder;
  if (options_.may_switch_precision)
    return fail(Code::kInvalidArgument, "exit heads hold for one precision; they go with --precision 8 or 4, not auto");
  TRY(check_can_exit(decoder, store_->kv_type()));
  exit_heads_ = TRY(ExitHeads::create(*options_.exits, decoder, *model_.backend));
  decoder.use_exits(exit_heads_.get());
  if (options_.exit_kld > 0) TRY(options_.exits->choose(options_.exit_kld));
  if (options_.exit_draft)
    if (const ExitHead* head = ExitDraft::best(*options_.exits, *exit_heads_, decoder))
      guesser_ = std::make_unique<ExitDraft>(decoder, *store_, *head);
  return {};
}

// Under which bound a request's tokens leave, as it says or the engine is set.
Result<void> Engine::choose_exit(Active& active) const {
  const Request& request = active.request;
  const bool told = request.exit_kld >= 0, possible = !request.adapter && request.candidates.empty();
  const double kld = told ? request.exit_kld : options_.exit_kld;
  if (!(kld > 0) || (!told && !possible)) return {};
  if (!possible)
    return fail(Code::kInvalidArgument,
                "exit_kld: not with an adapter, for which no exit was fitted, nor with candidates");
  if (!options_.exits)
    return fail(Code::kUnsupported,
                "exit_kld: the model has no exit heads; hearth exits fit MODEL --text FILE makes them");
  const ExitBound bound = TRY(options_.exits->choose(kld));
  active.exit = {bound.layers, bound.threshold};
  active.usage.exit_kld_max = bound.bound;
  active.usage.exit_layers = model_.decoder->config().n_layers() - bound.layers;
  return {};
}

// What a sequence's state depends on besides its tokens: which of them left is a function of the tokens and of this.
std::string Engine::state_precision(const Active& active) const {
  if (active.exit.layers == 0) return precision_;
  return fmt::format("{} exit {} {:a}", precision_, active.exit.layers, active.exit.threshold);
}

}  // namespace hearth
