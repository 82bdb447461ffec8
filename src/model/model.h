// A model ready to answer: its files, its text side and its decoder.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend/backend.h"
#include "model/checkpoint.h"
#include "model/decoder.h"
#include "model/memory_budget.h"
#include "store/pack_cache.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace hearth {

// What a checkpoint says about text. `chat_template` is null if the model carries none; `template_error` says why if it carries
// one that does not parse.
struct TextSide {
  std::unique_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<const ChatTemplate> chat_template;
  std::optional<Error> template_error;
};
Result<TextSide> load_text(const Checkpoint& checkpoint);

struct Model {
  std::unique_ptr<Checkpoint> checkpoint;
  TextSide text;
  std::shared_ptr<Backend> backend;       // of a draft model, the same as that of the model it drafts for
  std::unique_ptr<WeightStream> weights;  // null: there is no bound, or no pack
  std::unique_ptr<Decoder> decoder;
  std::optional<MemoryFit> fit;  // to a bound, where one was given
};
// A bound for the memory of the whole process, and what is wanted within it.
struct MemoryBound {
  uint64_t bytes = 0;  // 0: none
  MemoryWish wish;     // its context is that of the decoder's options
};
// Another bound for the weights of a model that is loaded: what does not fit is streamed from now on, what fits again stays. Its decoder
// remains the same object, with its precision; nobody may run it meanwhile. kLimit, if the bound is too small, and kUnsupported, if there
// is no pack to read from, leave all as it was.
Result<void> bound_weights(Model& model, uint64_t bytes_max);
// Where a model is kept once it was laid out (pack.h), so that the next time it is only mapped.
struct PackOptions {
  const PackCache* cache = nullptr;                                           // null: laid out in memory each time
  int n_threads = 1;                                                          // to make a pack
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress{};  // while one is made; may be empty
};
// `path`: a GGUF file, a folder with safetensors, or a pack. Where no pack can be kept (a disk full or read-only) a warning is
// logged and the model laid out in memory; a damaged pack in the cache is made anew. With a bound, what does not fit is streamed from
// the pack, or kLimit says what would fit (fit_memory).
Result<Model> load_model(const std::filesystem::path& path, std::shared_ptr<Backend> backend,
                         const DecoderOptions& options, const PackOptions& packs = {}, const MemoryBound& bound = {});

// The files a model consists of, found by names alone: one GGUF or all parts of a split one, or what a folder's model is read
// from. kIo if the folder cannot be read.
Result<std::vector<std::filesystem::path>> source_files(const std::filesystem::path& path);
// The place of a model's pack in a cache, there or not; its files are read if they are not known.
Result<std::filesystem::path> pack_place(const std::filesystem::path& path, const PackCache& cache);

// The prompt of a conversation by the model's own template; kUnsupported if it has none (a base model), with what to do instead.
Result<std::string> render_chat(const TextSide& text, const boost::json::array& messages,
                                ChatTemplateOptions options = {});
// Tokens of a rendered prompt: BOS where the model wants it and the text does not begin with it already.
std::vector<Token> encode_prompt(const Tokenizer& tokenizer, std::string_view prompt);

}  // namespace hearth
