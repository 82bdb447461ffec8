/* ask MODEL PROMPT MAX_TOKENS: prints what the model makes of the prompt. */
#include <hearth/hearth.h>
#include <stdio.h>
#include <stdlib.h>

static int complain(const char* what, const hearth_error* error) {
  fprintf(stderr, "%s: %s: %s\n", what, hearth_code_name(error->code), error->message);
  return 1;
}

static int print_answer(hearth_stream* stream) {
  hearth_error error;
  hearth_piece piece = HEARTH_PIECE_INIT;
  while (!piece.done) {
    if (hearth_next(stream, -1, &piece, &error) != HEARTH_OK) return complain("next", &error);
    fwrite(piece.text, 1, piece.text_bytes, stdout);
  }
  fprintf(stderr, "finish %d, %d tokens in, %d out\n", (int)piece.finish, (int)piece.usage->prompt_tokens,
          (int)piece.usage->completion_tokens);
  return 0;
}

int main(int argc, char** argv) {
  hearth_error error;
  hearth_options options = HEARTH_OPTIONS_INIT;
  hearth_request request = HEARTH_REQUEST_INIT;
  hearth_engine* engine;
  hearth_stream* stream;
  int failed;
  if (argc != 4) {
    fprintf(stderr, "usage: ask MODEL PROMPT MAX_TOKENS\n");
    return 2;
  }
  options.threads = 1;
  engine = hearth_load(argv[1], &options, &error);
  if (engine == NULL) return complain("load", &error);
  request.prompt = argv[2];
  request.max_tokens = atoi(argv[3]);
  request.temperature = 0;
  stream = hearth_submit(engine, &request, &error);
  failed = stream == NULL ? complain("submit", &error) : print_answer(stream);
  hearth_stream_free(stream);
  hearth_engine_free(engine);
  return failed;
}
