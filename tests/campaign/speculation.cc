// Answers with guessed tokens against answers without: speculation MODEL TEXT PROMPTS TOKENS
//
// Prompts are stretches of the text; each is answered greedily and drawn, by steps of 1 to 8 rows, with 1 and 2 threads. The last line
// is the row for docs/campaigns.md; the exit status is 1 if a token differs.
#include <fmt/format.h>

#include <cstdlib>

#include "base/file_io.h"
#include "engine/engine.h"

namespace hearth {
namespace {

constexpr int kContext = 256;

struct Answers {
  std::vector<std::vector<Token>> tokens;
  uint64_t drafted = 0, accepted = 0;
};

Result<Answers> answer_all(const char* path, int n_threads, int drafts_max, std::span<const Request> requests) {
  auto backend = TRY(create_backend("cpu", {.n_threads = n_threads, .isa = {}}));
  Model model = TRY(load_model(path, std::move(backend), {.context = kContext, .rows_max = 0, .progress = {}}));
  const auto engine = TRY(Engine::create(
      std::move(model), {.parallel = 4, .queue_max = static_cast<int>(requests.size()), .drafts_max = drafts_max}));
  std::vector<std::unique_ptr<Stream>> streams;
  for (const Request& request : requests) streams.push_back(TRY(engine->submit(request)));
  Answers answers;
  for (const auto& stream : streams) {
    auto& tokens = answers.tokens.emplace_back();
    for (bool done = false; !done;) {
      const Piece piece = stream->next();
      tokens.insert(tokens.end(), piece.tokens.begin(), piece.tokens.end());
      done = piece.done;
    }
  }
  const EngineStats stats = engine->stats();
  for (const uint64_t each : stats.drafted_tokens) answers.drafted += each;
  for (const uint64_t each : stats.accepted_tokens) answers.accepted += each;
  return answers;
}

// Stretches of 8 to 120 tokens from all over the text, each once greedy and once drawn.
Result<std::vector<Request>> requests_from(const char* path, const std::string& text, int prompts, int tokens) {
  auto backend = TRY(create_backend("cpu", {.n_threads = 1, .isa = {}}));
  const Model model = TRY(load_model(path, std::move(backend), {.context = kContext, .rows_max = 0, .progress = {}}));
  const std::vector<Token> all = encode_prompt(*model.text.tokenizer, text);
  constexpr uint64_t kShortest = 8, kLongest = 120;
  if (all.size() <= kLongest) return fail(Code::kInvalidArgument, "the text has {} tokens, too few", all.size());
  std::vector<Request> requests;
  for (int i = 0; i < prompts; ++i) {
    const auto draw = [&](uint64_t what, uint64_t n) {
      return static_cast<size_t>(uniform_at(what, static_cast<uint64_t>(i)) * static_cast<double>(n));
    };
    const size_t length = kShortest + draw(1, kLongest - kShortest), at = draw(2, all.size() - length);
    Request request;
    request.prompt.assign(all.begin() + static_cast<ptrdiff_t>(at), all.begin() + static_cast<ptrdiff_t>(at + length));
    request.max_tokens = tokens;
    request.ignore_eos = true;
    request.sampling.seed = static_cast<uint64_t>(i);
    for (const float temperature : {0.0f, 0.8f}) {
      request.sampling.temperature = temperature;
      requests.push_back(request);
    }
  }
  return requests;
}

Result<bool> run(const char* path, const char* text_path, int prompts, int tokens) {
  const std::string text = TRY(read_file(text_path, 64 << 20));
  const std::vector<Request> requests = TRY(requests_from(path, text, prompts, tokens));
  const Answers wanted = TRY(answer_all(path, 1, 0, requests));
  uint64_t compared = 0, differing = 0, drafted = 0, accepted = 0;
  for (const int n_threads : {1, 2})
    for (int rows = 1; rows <= 8; ++rows) {
      const Answers got = TRY(answer_all(path, n_threads, rows - 1, requests));
      drafted += got.drafted, accepted += got.accepted;
      for (size_t i = 0; i < requests.size(); ++i)
        for (size_t at = 0; at < std::max(wanted.tokens[i].size(), got.tokens[i].size()); ++at, ++compared)
          differing +=
              at >= wanted.tokens[i].size() || at >= got.tokens[i].size() || wanted.tokens[i][at] != got.tokens[i][at];
      fmt::print("{} threads, {} rows: {} of {} guesses came true, {} tokens differ so far\n", n_threads, rows,
                 got.accepted, got.drafted, differing);
      std::fflush(stdout);
    }
  const bool good = differing == 0 && accepted > 0 && drafted > accepted;
  fmt::print(
      "row: {}|{} prompts x {} tokens x 1 to 8 rows x 1 and 2 threads x greedy and drawn: {} tokens compared, {} of "
      "{} guesses came true|{}\n",
      std::string_view(path).substr(std::string_view(path).find_last_of('/') + 1), prompts, tokens, compared, accepted,
      drafted, good ? "0 tokens differ" : fmt::format("FAILED: {} tokens differ", differing));
  return good;
}

}  // namespace
}  // namespace hearth

int main(int argc, char** argv) {
  if (argc != 5) {
    fmt::print(stderr, "usage: speculation MODEL TEXT PROMPTS TOKENS\n");
    return 2;
  }
  const auto good = hearth::run(argv[1], argv[2], std::atoi(argv[3]), std::atoi(argv[4]));
  if (!good) fmt::print(stderr, "speculation: {}\n", good.error().message);
  return good && *good ? 0 : 1;
}
