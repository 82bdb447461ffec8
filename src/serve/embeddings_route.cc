// Vectors of texts: POST /v1/embeddings, and Ollama's /api/embed and /api/embeddings.
#include <bit>
#include <boost/json/array.hpp>
#include <cmath>
#include <span>

#include "base/limits.h"
#include "serve/all.h"
#include "serve/embeddings.h"
#include "serve/generation.h"
#include "serve/ollama.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;
static_assert(std::endian::native == std::endian::little, "base64 embeddings are little-endian floats");

std::string base64(std::span<const float> floats) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto bytes = std::as_bytes(floats);
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) bits = bits << 8 | (k < count ? std::to_integer<uint32_t>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) out += k <= count ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

json::array numbers(const std::vector<float>& floats) { return json::array(floats.begin(), floats.end()); }

// Token ids are taken as they are: the marks around a text are part of them.
Result<std::vector<Token>> read_ids(const json::array& ids, const std::string& path, const Encoder& encoder) {
  if (ids.size() > static_cast<size_t>(encoder.tokens_max()))
    return fail(Code::kLimit, "{}: {} tokens, this model takes {}", path, ids.size(), encoder.tokens_max());
  return read_token_ids(ids, path, encoder.tokenizer().n_vocab());
}

// A text or token ids.
Result<std::vector<Token>> read_one(const json::value& input, const std::string& path, const Encoder& encoder,
                                    bool truncate) {
  if (const auto* ids = input.if_array(); ids != nullptr && !ids->empty()) return read_ids(*ids, path, encoder);
  const auto* text = input.if_string();
  if (text == nullptr)
    return fail(Code::kInvalidArgument, "{}: need a text or token ids, got {}", path, kind_of(input));
  return encoder_tokens(encoder, *text, path, truncate);
}

// One text, one list of token ids, or a list of either.
Result<std::vector<std::vector<Token>>> read_inputs(const json::value& input, const std::string& path,
                                                    const Encoder& encoder, bool truncate) {
  std::vector<std::vector<Token>> texts;
  const auto* list = input.if_array();
  if (list == nullptr || (!list->empty() && list->front().is_number())) {
    texts.push_back(TRY(read_one(input, path, encoder, truncate)));
    return texts;
  }
  if (list->size() > limits::kInputs)
    return fail(Code::kLimit, "{}: {} texts, the limit is {}", path, list->size(), limits::kInputs);
  for (size_t i = 0; i < list->size(); ++i)
    texts.push_back(TRY(read_one((*list)[i], fmt::format("{}[{}]", path, i), encoder, truncate)));
  return texts;
}

// The first numbers of a vector, of length 1 again: what models trained for it (Kusupati et al. 2022) are cut by.
std::vector<float> shortened(std::span<const float> vector, size_t dimensions) {
  std::vector<float> out(vector.begin(), vector.begin() + static_cast<std::ptrdiff_t>(dimensions));
  if (dimensions == vector.size()) return out;
  double square = 0;
  for (const float x : out) square += double{x} * x;
  const double length = std::sqrt(square);
  for (float& x : out) x = length > 0 ? static_cast<float>(x / length) : 0;
  return out;
}

Result<size_t> checked_dimensions(std::optional<int64_t> asked, const Encoder& encoder) {
  const int d_model = encoder.config().d_model;
  if (asked.value_or(1) > d_model)
    return fail(Code::kInvalidArgument, "dimensions: {}, this model's vectors have {}", *asked, d_model);
  return static_cast<size_t>(asked.value_or(d_model));
}

Result<void> try_openai(Server& server, const RouteCall& call) {
  const json::value value = TRY(json_body(call));
  Fields body(value, "");
  std::string name = body.text("model").value_or("");
  const json::value* input = body.find("input");
  const bool as_base64 = body.word("encoding_format", {"float", "base64"}).value_or(0) == 1;
  const auto asked = body.integer("dimensions", 1, INT32_MAX);
  const auto* list = input == nullptr ? nullptr : input->if_array();
  if (input == nullptr) body.wrong("input", "is missing");
  if (list != nullptr && list->empty()) body.wrong("input", "is empty");
  TRY(body.check());
  auto model = TRY(acquire_encoder(server, call, name));
  const size_t dimensions = TRY(checked_dimensions(asked, *model->encoder));
  auto texts = TRY(read_inputs(*input, "input", *model->encoder, false));
  const size_t n = texts.size();
  auto answer = [call, name, n, as_base64, dimensions](const Embeddings& embeddings) {
    json::array data;
    for (size_t i = 0; i < n; ++i) {
      const std::vector<float> vector = shortened(embeddings.of(i), dimensions);
      json::object one{{"object", "embedding"}, {"index", i}};
      if (as_base64)
        one["embedding"] = base64(vector);
      else
        one["embedding"] = numbers(vector);
      data.push_back(std::move(one));
    }
    const json::object usage{{"prompt_tokens", embeddings.tokens}, {"total_tokens", embeddings.tokens}};
    reply_json(call, 200,
               json::object{{"object", "list"}, {"data", std::move(data)}, {"model", name}, {"usage", usage}});
  };
  embed_all(call, std::move(model), std::move(texts), std::move(answer));
  return {};
}

// `single`: /api/embeddings, with one prompt and one vector. A text that is empty has no vector, as Ollama has it.
Result<void> try_ollama(Server& server, const RouteCall& call, bool single) {
  const json::value value = TRY(json_body(call));
  Fields body(value, "");
  std::string name = body.text("model").value_or("");
  if (name.empty()) body.wrong("model", "is missing");
  const std::string_view field = single ? "prompt" : "input";
  const std::vector<std::string> inputs = body.texts(field);
  if (inputs.size() > limits::kInputs)
    body.wrong(field, fmt::format("{} texts, the limit is {}", inputs.size(), limits::kInputs));
  const bool truncate = body.flag("truncate").value_or(true);
  const auto asked = body.integer("dimensions", 1, INT32_MAX);
  const auto keep_alive = read_keep_alive(body);
  TRY(body.check());
  auto model = TRY(acquire_encoder(server, call, name, keep_alive));
  const size_t dimensions = TRY(checked_dimensions(asked, *model->encoder));
  std::vector<std::vector<Token>> texts;
  for (size_t i = 0; i < inputs.size(); ++i)
    texts.push_back(TRY(encoder_tokens(*model->encoder, inputs[i], fmt::format("{}[{}]", field, i), truncate)));
  const std::chrono::nanoseconds loaded = std::chrono::steady_clock::now() - call.record->arrived;
  auto answer = [call, name, n = texts.size(), single, dimensions, loaded](const Embeddings& embeddings) {
    json::array all;
    for (size_t i = 0; i < n; ++i) all.push_back(numbers(shortened(embeddings.of(i), dimensions)));
    if (single) return reply_json(call, 200, {{"embedding", n > 0 ? all[0] : json::array()}});
    const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - call.record->arrived;
    reply_json(call, 200,
               json::object{{"model", name},
                            {"embeddings", std::move(all)},
                            {"total_duration", took.count()},
                            {"load_duration", loaded.count()},
                            {"prompt_eval_count", embeddings.tokens}});
  };
  embed_all(call, std::move(model), std::move(texts), std::move(answer));
  return {};
}

template <auto try_answer, auto... more>
void handle(Server& server, RouteCall call) {
  call.record->operation = "embeddings";
  if (const auto done = try_answer(server, call, more...); !done) reply_error(call, done.error());
}

}  // namespace

const Route kEmbeddings{"POST", "/v1/embeddings", Access::kUser, Dialect::kOpenAi, handle<try_openai>};
const Route kOllamaEmbed{"POST", "/api/embed", Access::kUser, Dialect::kOllama, handle<try_ollama, false>};
const Route kOllamaEmbeddings{"POST", "/api/embeddings", Access::kUser, Dialect::kOllama, handle<try_ollama, true>};

}  // namespace hearth::serve
