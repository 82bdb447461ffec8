// Any bytes as a LoRA adapter of a small model: what is accepted can be run.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "model/adapter.h"
#include "model/model.h"
#include "model/sequence.h"
#include "support/test_folder.h"

namespace {

using hearth::Adapter;

constexpr int kRankMax = 4;

struct Base {
  hearth::Model model = hearth::load_model(HEARTH_TEST_DATA "/families/llama/model.gguf",
                                           hearth::create_backend("cpu", {.n_threads = 1, .isa = {}}).value(),
                                           {.context = 32, .rows_max = 8, .progress = {}, .adapter_rank_max = kRankMax})
                            .value();
  std::unique_ptr<hearth::Backend> loader = hearth::create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  hearth::TestFolder folder;
};

void run(Base& base, const Adapter& adapter) {
  const auto store = hearth::SequenceStore::create(*base.model.backend, base.model.decoder->config(),
                                                   {.positions_max = 32, .sequences_max = 1})
                         .value();
  const hearth::SequenceId id = store->open().value();
  if (!store->reserve(id, 2)) __builtin_trap();
  const hearth::SequenceRows rows = store->rows(id, 0, 2);
  const hearth::Token tokens[] = {1, 2};
  const Adapter* const adapters[] = {&adapter};
  base.model.decoder->run({.tokens = tokens, .sequences = {&rows, 1}, .adapters = adapters}, *store);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Base base;
  base.folder.write("adapter.gguf", std::string_view(reinterpret_cast<const char*>(data), size));
  const auto adapter =
      Adapter::load(base.folder.path() / "adapter.gguf", *base.model.checkpoint, *base.model.decoder, *base.loader);
  if (!adapter) {
    if (adapter.error().message.empty()) __builtin_trap();
    return 0;
  }
  if ((*adapter)->rank() < 1 || (*adapter)->rank() > kRankMax || !(*adapter)->fits(*base.model.decoder))
    __builtin_trap();
  run(base, **adapter);
  return 0;
}
