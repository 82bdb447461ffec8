#include "serve/embeddings.h"

#include <atomic>

namespace hearth::serve {
namespace {

constexpr size_t kTokensAtOnce = 512;  // some tenths of a second of a small encoder

struct Work {
  RouteCall call;
  std::shared_ptr<LoadedModel> model;
  std::vector<std::vector<Token>> texts;
  std::function<void(const Embeddings&)> done;
  Embeddings embeddings;
  size_t next = 0;
  std::shared_ptr<std::atomic<bool>> gone = std::make_shared<std::atomic<bool>>(false);
};

void go_on(const std::shared_ptr<Work>& work) {
  if (work->gone->load()) return;
  const size_t first = work->next;
  for (size_t tokens = 0; work->next < work->texts.size() && tokens < kTokensAtOnce; ++work->next)
    tokens += work->texts[work->next].size();
  const auto vectors = work->model->encoder->embed(std::span(work->texts).subspan(first, work->next - first));
  work->embeddings.vectors.insert(work->embeddings.vectors.end(), vectors.begin(), vectors.end());
  if (work->next < work->texts.size()) return work->call.exchange->post([work] { go_on(work); });
  work->model.reset();
  work->done(work->embeddings);
}

}  // namespace

Result<std::vector<Token>> encoder_tokens(const Encoder& encoder, std::string_view text, std::string_view field,
                                          bool truncate) {
  auto tokens = encoder.tokens(text, truncate);
  if (!tokens) return within(field, tokens.error());
  return tokens;
}

void embed_all(const RouteCall& call, std::shared_ptr<LoadedModel> model, std::vector<std::vector<Token>> texts,
               std::function<void(const Embeddings&)> done) {
  auto work = std::make_shared<Work>();
  work->embeddings.d_model = model->encoder->config().d_model;
  for (const auto& tokens : texts) work->embeddings.tokens += static_cast<int>(tokens.size());
  work->texts = std::move(texts);
  work->call = call, work->model = std::move(model), work->done = std::move(done);
  call.record->prompt_tokens = work->embeddings.tokens;
  call.exchange->on_gone([gone = work->gone] { gone->store(true); });
  call.exchange->post([work] { go_on(work); });
}

}  // namespace hearth::serve
