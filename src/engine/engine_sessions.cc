// Conversations as files.
#include <algorithm>
#include <future>

#include "engine/engine_active.h"

namespace hearth {

// Has the engine's thread do something, and waits until it is done.
void Engine::between_steps(std::function<void()> errand) {
  auto done = std::make_shared<std::promise<void>>();
  {
    const std::scoped_lock lock(mutex_);
    errands_.push_back([done, errand = std::move(errand)] {
      errand();
      done->set_value();
    });
    news_ = true;
  }
  wake_.notify_all();
  done->get_future().wait();
}

void Engine::run_errands() {
  std::vector<std::function<void()>> errands;
  {
    const std::scoped_lock lock(mutex_);
    errands.swap(errands_);
  }
  for (const auto& errand : errands) errand();
}

// A fork of what is kept of the tokens, cut to those it has; -1 if there is none.
SequenceId Engine::snapshot_of(const std::string& tenant, std::vector<Token>& tokens) {
  const Kept* best = nullptr;
  int length = 0;
  for (const Kept& kept : kept_) {
    if (kept.tenant != tenant || kept.adapter || kept.arriving || kept.precision != precision_) continue;
    const int common = common_prefix(kept.tokens, tokens);
    if (common > length) best = &kept, length = common;
  }
  if (best == nullptr) return -1;
  const auto fork = store_->fork(best->sequence);
  if (!fork) return -1;
  tokens.resize(static_cast<size_t>(store_->truncate(*fork, length)));
  return *fork;
}

Result<int> Engine::save_session(const std::string& tenant, std::vector<Token> tokens, std::string note,
                                 const std::filesystem::path& path, const Key& key) {
  if (options_.chain)
    return fail(Code::kUnsupported, "the model's layers are on other machines, and so is the conversation's state");
  Request request;
  request.prompt = tokens;
  request.max_tokens = 0;
  request.tenant = tenant;
  const std::unique_ptr<Stream> stream = TRY(submit(std::move(request)));
  Piece piece;
  while (!piece.done) piece = stream->next();
  if (piece.finish != Finish::kLength)
    return fail(Code::kBusy, "the conversation was not saved: its {} tokens could not run ({})", tokens.size(),
                name(piece.finish));
  SequenceId snapshot = -1;
  StateBytes bytes;
  StateOwner owner;
  between_steps([&] {
    snapshot = snapshot_of(tenant, tokens);
    if (snapshot < 0) return;
    bytes = store_->bytes(snapshot);
    owner = state_owner(tenant, precision_);
  });
  if (snapshot < 0) return fail(Code::kBusy, "the conversation was not saved: its state had to make room; try again");
  const auto length = static_cast<int>(tokens.size());
  const auto written = StateFile::write(
      path, key, {.owner = std::move(owner), .tokens = std::move(tokens), .note = std::move(note)}, bytes);
  between_steps([&] { store_->release(snapshot); });
  if (!written) return std::unexpected(written.error());
  return length;
}

Result<void> Engine::check_fits(const StateIndex& index, const StateOwner& own) const {
  // "digest kv-type", and the precision if it is not the whole model.
  const auto part = [](std::string_view text, int n) {
    for (; n > 0; --n)
      text.remove_prefix(std::min(text.size(), text.find(' ') == text.npos ? text.size() : text.find(' ') + 1));
    return text.substr(0, text.find(' '));
  };
  const std::string_view theirs = index.owner.model, ours = own.model;
  if (part(theirs, 0) != part(ours, 0))
    return fail(Code::kInvalidArgument, "it was saved with another model ({:.12}, this one is {:.12})", part(theirs, 0),
                part(ours, 0));
  if (part(theirs, 1) != part(ours, 1))
    return fail(Code::kInvalidArgument, "its keys and values are {}, here they are {}; use --kv-type {}",
                part(theirs, 1), part(ours, 1), part(theirs, 1));
  if (theirs != ours)
    return fail(Code::kInvalidArgument, "it was saved at precision {}, this one runs at {}; use --precision",
                part(theirs, 2).empty() ? "8" : part(theirs, 2), part(ours, 2).empty() ? "8" : part(ours, 2));
  if (index.owner.tenant != own.tenant) return fail(Code::kInvalidArgument, "it is another key's");
  if (static_cast<int>(index.tokens.size()) >= model_.decoder->context())
    return fail(Code::kLimit, "it has {} tokens, the context is {}; use a larger --context", index.tokens.size(),
                model_.decoder->context());
  return {};
}

Result<StateIndex> Engine::load_session(const std::string& tenant, const std::filesystem::path& path, const Key& key) {
  if (options_.chain)
    return fail(Code::kUnsupported, "the model's layers are on other machines, and so is the conversation's state");
  const StateFile file = TRY(StateFile::open(path, key));
  Result<SequenceId> sequence = fail(Code::kBusy, "there is no room for it");
  StateBytes place;
  std::string precision;
  Result<void> fits;
  between_steps([&] {
    precision = precision_;
    fits = check_fits(file.index(), state_owner(tenant, precision_));
    if (!fits) return;
    const auto length = static_cast<int>(file.index().tokens.size());
    sequence = store_->open_for_import(length);
    while (!sequence && make_room()) sequence = store_->open_for_import(length);
    if (sequence) place = store_->bytes(*sequence);
  });
  if (!fits) return within(path.string(), fits.error());
  if (!sequence) return within(path.string(), sequence.error());
  const auto read = file.read_all(place);
  between_steps([&] {
    if (read)
      kept_.push_back({*sequence, tenant, nullptr, precision, file.index().tokens});
    else
      store_->release(*sequence);
  });
  if (!read) return within(path.string(), read.error());
  return file.index();
}

}  // namespace hearth
