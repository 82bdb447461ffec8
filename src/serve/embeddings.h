// Texts to vectors, a few at a time, so that no worker is kept from others for long.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/catalog.h"
#include "serve/route.h"

namespace hearth::serve {

struct Embeddings {
  std::vector<float> vectors;  // d_model floats per text, side by side
  int d_model = 0, tokens = 0;
  [[nodiscard]] std::span<const float> of(size_t text) const {
    return std::span(vectors).subspan(text * static_cast<size_t>(d_model), static_cast<size_t>(d_model));
  }
};

// What an encoder reads of a text. Errors name it as `field`: one that is too long without `truncate`.
Result<std::vector<Token>> encoder_tokens(const Encoder& encoder, std::string_view text, std::string_view field,
                                          bool truncate);
// Calls `done` on a job of the exchange, unless the client goes before. `model` has an encoder, texts are as it wants them.
void embed_all(const RouteCall& call, std::shared_ptr<LoadedModel> model, std::vector<std::vector<Token>> texts,
               std::function<void(const Embeddings&)> done);

}  // namespace hearth::serve
