// ask MODEL PROMPT MAX_TOKENS: prints what the model makes of the prompt.
#include <cstdlib>
#include <hearth/hearth.hpp>
#include <iostream>

int complain(const hearth::Error& error) {
  std::cerr << hearth_code_name(error.code) << ": " << error.message << "\n";
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  hearth::Options options;
  options.threads = 1;
  auto engine = hearth::Engine::load(argv[1], options);
  if (!engine) return complain(engine.error());

  const auto tokens = engine->tokenize(argv[2]);
  if (!tokens) return complain(tokens.error());
  const auto text = engine->detokenize(*tokens);
  if (!text || *text != argv[2]) return 3;

  hearth::Request request;
  request.prompt = argv[2];
  request.options.max_tokens = std::atoi(argv[3]);
  request.options.temperature = 0;
  auto stream = engine->submit(request);
  if (!stream) return complain(stream.error());
  for (const std::string_view piece : *stream) std::cout << piece;
  if (!stream->done()) return complain(stream->error());
  return stream->usage().completion_tokens > 0 ? 0 : 4;
}
