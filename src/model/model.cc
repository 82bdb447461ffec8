#include "model/model.h"

#include <limits>
#include <optional>
#include <thread>

#include "base/log.h"
#include "base/process_memory.h"
#include "model/gguf_tokenizer.h"
#include "model/memory_plan.h"
#include "model/open_cached.h"
#include "text/tokenizer_json.h"

namespace hearth {
namespace {

struct TextFiles {
  TokenizerData tokenizer;
  std::string chat_template;
};

Result<TextFiles> text_of_gguf(const Checkpoint& checkpoint) {
  TextFiles files{.tokenizer = TRY(tokenizer_from_gguf(checkpoint.metadata())), .chat_template = {}};
  auto templates = TRY(chat_templates_from_gguf(checkpoint.metadata()));
  if (!templates.empty()) files.chat_template = std::move(templates.front().text);
  return files;
}

// A file of a Hugging Face folder, empty if it is not there.
Result<std::string> optional_file(const Checkpoint& checkpoint, std::string_view name) {
  auto text = checkpoint.text_file(name);
  if (!text && text.error().code == Code::kNotFound) return std::string();
  return text;
}

Result<TextFiles> text_of_folder(const Checkpoint& checkpoint) {
  const std::string tokenizer = TRY(optional_file(checkpoint, "tokenizer.json"));
  if (tokenizer.empty())
    return fail(Code::kNotFound, "{}: no tokenizer.json there; the model cannot read text without it",
                checkpoint.path().string());
  const std::string config = TRY(optional_file(checkpoint, "tokenizer_config.json"));
  const std::string specials = TRY(optional_file(checkpoint, "special_tokens_map.json"));
  const std::string generation = TRY(optional_file(checkpoint, "generation_config.json"));
  TokenizerFiles files = TRY(read_tokenizer_json({.tokenizer = tokenizer,
                                                  .tokenizer_config = config,
                                                  .special_tokens_map = specials,
                                                  .generation_config = generation}));
  return TextFiles{.tokenizer = std::move(files.data), .chat_template = std::move(files.chat_template)};
}

}  // namespace

Result<TextSide> load_text(const Checkpoint& checkpoint) {
  const bool gguf = checkpoint.kind() == Checkpoint::Kind::kGguf;
  TextFiles files = TRY(gguf ? text_of_gguf(checkpoint) : text_of_folder(checkpoint));
  TextSide text;
  text.tokenizer = TRY(Tokenizer::create(std::move(files.tokenizer)));
  if (files.chat_template.empty()) return text;
  if (auto parsed = ChatTemplate::parse(files.chat_template))
    text.chat_template = std::make_unique<const ChatTemplate>(std::move(*parsed));
  else
    text.template_error = parsed.error();
  return text;
}

namespace {

// Decides what of the weights stays, once all else that has to be in memory is.
Result<void> fit(Model& model, const MemoryBound& bound, DecoderOptions& options) {
  model.checkpoint->release_read();
  trim_memory();  // what reading the text took
  const MemoryNeeds needs = TRY(memory_needs(*model.checkpoint, *model.backend, resident_bytes()));
  MemoryWish wish = bound.wish;
  wish.context = TRY(plan_memory(*model.checkpoint, *model.backend, options.context, KvType::kF16)).context;
  model.fit = TRY(fit_memory(needs, wish, bound.bytes));
  const StreamPlan& weights = model.fit->weights;
  if (!model.checkpoint->packed()) {
    if (weights.read_bytes == 0) return {};
    return fail(Code::kLimit,
                "weights that do not fit into {} MiB are read from a pack, and none could be kept (--no-cache, or a "
                "disk that is full)",
                bound.bytes >> 20);
  }
  // Also where all fits: the bound may become less.
  constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();
  model.weights = TRY(WeightStream::create(*model.checkpoint, weights.read_bytes == 0 ? kAll : weights.resident_bytes));
  options.weights = model.weights.get();
  return {};
}

Result<void> complete_within(Model& model, DecoderOptions options, const MemoryBound& bound) {
  model.text = TRY(load_text(*model.checkpoint));
  TRY(fit(model, bound, options));
  model.decoder = TRY(Decoder::load(*model.checkpoint, *model.backend, options));
  return {};
}

Result<void> load_both(Model& model, const DecoderOptions& options) {
  const std::string path = model.checkpoint->path().string();
  // A large vocabulary takes as long as a good part of the weights; neither needs the other.
  std::optional<Result<TextSide>> text;
  std::jthread reads_text([&] { text = load_text(*model.checkpoint); });
  auto decoder = Decoder::load(*model.checkpoint, *model.backend, options);
  reads_text.join();
  model.text = TRY(std::move(*text));
  if (!decoder) return within(path, decoder.error());
  model.decoder = std::move(*decoder);
  return {};
}

// Text side and decoder of a model whose checkpoint and backend are there.
Result<void> complete(Model& model, const DecoderOptions& options, const MemoryBound& bound) {
  const std::string path = model.checkpoint->path().string();
  TRY(bound.bytes > 0 ? complete_within(model, options, bound) : load_both(model, options));
  const int n_tokens = model.text.tokenizer->n_vocab(), n_vocab = model.decoder->config().n_vocab;
  if (n_tokens > n_vocab)
    return fail(Code::kMalformed, "{}: the tokenizer has {} tokens, the embedding only {} rows", path, n_tokens,
                n_vocab);
  // Everything wanted from the files was copied, of a pack its text; what is read of them again comes back by itself.
  model.checkpoint->release_read();
  return {};
}

}  // namespace

Result<Model> load_model(const std::filesystem::path& path, std::shared_ptr<Backend> backend,
                         const DecoderOptions& options, const PackOptions& packs, const MemoryBound& bound) {
  Model model;
  model.backend = std::move(backend);
  for (const bool anew : {false, true}) {
    auto packed = packs.cache ? TRY(open_cached(path, *model.backend, packs, anew)) : std::optional<Checkpoint>();
    if (!packed) break;
    model.checkpoint = std::make_unique<Checkpoint>(std::move(*packed));
    auto completed = complete(model, options, bound);
    if (completed) return model;
    // A manifest whose digest is right may still say what no model can be.
    const Code code = completed.error().code;
    if (anew || (code != Code::kMalformed && code != Code::kCorrupt && code != Code::kUnsupported))
      return std::unexpected(completed.error());
    LOG(kWarning, "{}; the pack is made anew", completed.error().message);
    model.decoder.reset();
    model.weights.reset();  // they refer to the checkpoint
  }
  model.checkpoint = std::make_unique<Checkpoint>(TRY(open_checkpoint(path)));
  TRY(complete(model, options, bound));
  return model;
}

Result<void> bound_weights(Model& model, uint64_t bytes_max) {
  if (!model.checkpoint->packed()) {
    if (bytes_max >= static_cast<uint64_t>(model.decoder->weight_bytes())) return {};
    return fail(Code::kUnsupported, "weights are laid out in memory, and there is no pack to read them from");
  }
  const StreamPlan plan = TRY(WeightStream::plan(*model.checkpoint, *model.backend, bytes_max));
  if (!model.weights) {
    if (plan.read_bytes == 0) return {};
    constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();
    auto stream = TRY(WeightStream::create(*model.checkpoint, kAll));
    TRY(model.decoder->attach_weights(*model.checkpoint, *stream));
    model.weights = std::move(stream);
  }
  return model.weights->set_bytes_max(bytes_max);
}

Result<std::string> render_chat(const TextSide& text, const boost::json::array& messages, ChatTemplateOptions options) {
  if (text.template_error) return within("the model's chat template", *text.template_error);
  if (!text.chat_template)
    return fail(
        Code::kUnsupported,
        "the model has no chat template (a base model); give it plain text to go on from: --raw, or /v1/completions");
  const TokenizerData& data = text.tokenizer->data();
  auto token_text = [&](Token token) {
    return token == kNoToken ? std::string() : data.tokens[static_cast<size_t>(token)];
  };
  options.bos_token = token_text(data.bos);
  options.eos_token = token_text(data.eos);
  return text.chat_template->render(messages, options);
}

std::vector<Token> encode_prompt(const Tokenizer& tokenizer, std::string_view prompt) {
  const TokenizerData& data = tokenizer.data();
  const bool has_bos = data.bos != kNoToken && prompt.starts_with(data.tokens[static_cast<size_t>(data.bos)]);
  std::vector<Token> tokens = tokenizer.encode(prompt, {.parse_special = true, .add_bos = !has_bos});
  // An EOS after the prompt would end the answer before it begins.
  if (!has_bos && data.add_eos && !tokens.empty() && tokens.back() == data.eos) tokens.pop_back();
  return tokens;
}

}  // namespace hearth
