/* libhearth: run a language model inside your program.
 *
 * A model is loaded into an engine; a prompt submitted to the engine gives a stream; the stream gives the answer piece
 * by piece.
 *
 *   hearth_error error;
 *   hearth_options options = HEARTH_OPTIONS_INIT;
 *   hearth_engine* engine = hearth_load("model.gguf", &options, &error);
 *   hearth_request request = HEARTH_REQUEST_INIT;
 *   request.prompt = "Once upon a time";
 *   hearth_stream* stream = hearth_submit(engine, &request, &error);
 *   hearth_piece piece = HEARTH_PIECE_INIT;
 *   while (!piece.done && hearth_next(stream, -1, &piece, &error) == HEARTH_OK)
 *     fwrite(piece.text, 1, piece.text_bytes, stdout);
 *   hearth_stream_free(stream);
 *   hearth_engine_free(engine);
 *
 * Errors are values: a function returns HEARTH_OK or another code, or NULL instead of an object, and fills *error if
 * that is not NULL. Nothing throws or writes to stdout; warnings go to stderr. There is no global state and the
 * environment is not read.
 *
 * Text is UTF-8. Everything passed in is copied before the call returns. What a call hands out belongs to the object it
 * came from; how long it is valid is said at the field.
 *
 * Threads: any thread may use an engine, several at once, until one calls hearth_engine_free. A stream is for one thread
 * at a time; only hearth_cancel may be called on it from any other.
 *
 * Structs that may grow begin with their size, which the *_INIT macros set. Later versions add fields at the end; zero in
 * them means what held before, so programs built against an older header keep working. hearth_error and hearth_message
 * stay as they are. */
#ifndef HEARTH_HEARTH_H
#define HEARTH_HEARTH_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define HEARTH_API __attribute__((visibility("default")))
#else
#define HEARTH_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hearth_code {
  HEARTH_OK = 0,
  HEARTH_INVALID_ARGUMENT = 1, /* the call makes no sense */
  HEARTH_MALFORMED = 2,        /* a file breaks its format */
  HEARTH_UNSUPPORTED = 3,      /* well formed, but nothing this version can do */
  HEARTH_NOT_FOUND = 4,        /* no such model, file or backend */
  HEARTH_LIMIT = 5,            /* over a limit, the context or the memory there is */
  HEARTH_IO = 6,               /* the system said no */
  HEARTH_CORRUPT = 7,          /* a digest does not match */
  HEARTH_BUSY = 8,             /* too many requests wait; try again later */
  HEARTH_CANCELLED = 9,
  HEARTH_INTERNAL = 10, /* a bug in libhearth */
  HEARTH_TIMEOUT = 11   /* of hearth_next: nothing came in time; call it again */
} hearth_code;

/* Filled by a call that fails, emptied (HEARTH_OK, "") by one that does not. */
typedef struct hearth_error {
  hearth_code code;
  char message[1020]; /* what was wrong, with the number; cut to fit, always ends in NUL */
} hearth_error;

typedef struct hearth_engine hearth_engine;
typedef struct hearth_stream hearth_stream;

/* "0.1.0", of the library that runs. */
HEARTH_API const char* hearth_version(void);
/* "not_found" for HEARTH_NOT_FOUND; "unknown" for what is no code. */
HEARTH_API const char* hearth_code_name(hearth_code code);

/* ---- loading ---- */

typedef struct hearth_options {
  size_t size;
  const char* store;   /* folder of a model store ($HEARTH_HOME): the model may be a name in it; NULL: a path only */
  const char* backend; /* "cpu", or "reference": slow, the definition of every result; NULL: "cpu" */
  const char* kv_type; /* keys and values kept as "f16", "i8", "i4" or "auto"; NULL: "f16" */
  int32_t threads;     /* 1 to 1024; 0: one per physical core */
  int32_t context;     /* positions of a sequence, prompt and answer; 0: 4096, or the model's maximum if less */
  int32_t parallel;    /* sequences at once, 1 to 256, each with room for a full context; 0: 1 */
  int32_t queue;       /* requests that may wait, 1 to 65536; more are refused with HEARTH_BUSY; 0: 64 */
  const char* cache;   /* folder for packs, made if missing; NULL: "packs" in the store, if there is one; "": none */
} hearth_options;
/* clang-format off */
#define HEARTH_OPTIONS_INIT {sizeof(hearth_options), NULL, NULL, NULL, 0, 0, 0, 0, NULL}
/* clang-format on */

/* `model`: a .gguf file (of a split model the first), a folder as Hugging Face lays it out, or a name in the store.
 * `options` may be NULL. Without a cache of packs it takes the time to read the model once; with one, so does the first time, and
 * from then on the pack is mapped. A mapped file that someone else cuts short raises SIGBUS: the library handles no signals,
 * so a program that must outlive that leaves the cache out. */
HEARTH_API hearth_engine* hearth_load(const char* model, const hearth_options* options, hearth_error* error);
/* Ends what is still generated: its streams report HEARTH_FINISH_CANCELLED and are still to be freed. NULL is allowed. */
HEARTH_API void hearth_engine_free(hearth_engine* engine);
/* Positions of a sequence; 0 for NULL. */
HEARTH_API int32_t hearth_context(const hearth_engine* engine);

/* How near the system is to throttling, for machines whose temperatures an app may not read: what Android's
 * AThermal_getThermalHeadroom says, once every few seconds. 0 is cold; at 1 it throttles severely, so from 0.95 on the engine uses
 * less of the processor, and below 0.85 more again; answers are the same. It counts for 30 seconds. NaN, which Android gives
 * when it does not know, is ignored. HEARTH_INVALID_ARGUMENT below 0 and above 100. Any thread. */
HEARTH_API hearth_code hearth_thermal_headroom(hearth_engine* engine, float headroom, hearth_error* error);

/* ---- asking ---- */

typedef struct hearth_message {
  const char* role; /* "system", "user", "assistant" */
  const char* content;
} hearth_message;

typedef struct hearth_request {
  size_t size;
  /* Either a text to go on from, as it is, in which texts of control tokens are those tokens; */
  const char* prompt;
  /* or a conversation, put into the model's own chat template (HEARTH_UNSUPPORTED if it has none). */
  const hearth_message* messages;
  size_t n_messages;
  const char* const* stop;  /* texts that end the answer and are no part of it */
  size_t n_stop;            /* at most 16, of 1 to 1024 bytes */
  uint64_t seed;            /* same model, prompt, options and seed: same answer */
  int32_t max_tokens;       /* -1: until the model ends or the context is full */
  int32_t top_k;            /* only the k likeliest tokens; 0: all */
  float temperature;        /* 0: always the likeliest token */
  float top_p;              /* only the likeliest tokens that make up this probability; 1: all */
  float min_p;              /* only tokens at least this likely, relative to the likeliest; 0: all */
  float repetition_penalty; /* makes tokens of the last 64 less likely; 1: off */
  float presence_penalty;   /* subtracted from the logit of a token already there; 0: off */
  float frequency_penalty;  /* subtracted for each time it is there; 0: off */
} hearth_request;
/* clang-format off */
#define HEARTH_REQUEST_INIT \
  {sizeof(hearth_request), NULL, NULL, 0, NULL, 0, 0, -1, 40, 0.8f, 0.95f, 0.05f, 1.0f, 0.0f, 0.0f}
/* clang-format on */

/* Checks the request and queues it; the engine's own thread works on it from now on. */
HEARTH_API hearth_stream* hearth_submit(hearth_engine* engine, const hearth_request* request, hearth_error* error);

/* ---- the answer ---- */

typedef enum hearth_finish {
  HEARTH_FINISH_NONE = 0,      /* not done yet */
  HEARTH_FINISH_END = 1,       /* the model ended its answer */
  HEARTH_FINISH_STOP = 2,      /* a stop text appeared */
  HEARTH_FINISH_LENGTH = 3,    /* max_tokens */
  HEARTH_FINISH_CONTEXT = 4,   /* the context is full */
  HEARTH_FINISH_CANCELLED = 5, /* hearth_cancel or hearth_engine_free */
  HEARTH_FINISH_DEADLINE = 6   /* the deadline passed */
} hearth_finish;

/* Where a figure comes from. */
typedef enum hearth_source {
  HEARTH_SOURCE_ABSENT = 0, /* nobody knows it */
  HEARTH_SOURCE_ESTIMATED = 1,
  HEARTH_SOURCE_MEASURED = 2
} hearth_source;

/* The library's own: later versions add fields at the end, which programs built against an older header do not see. */
typedef struct hearth_usage {
  int32_t prompt_tokens;
  int32_t cached_tokens; /* of the prompt, taken over from an earlier request */
  int32_t completion_tokens;
  double queue_seconds; /* until work began */
  double prefill_seconds;
  double decode_seconds;
  double joules;               /* of the steps it was part of, its share */
  hearth_source joules_source; /* measured only if all of it is */
  int32_t drafted_tokens;      /* that were run as guesses */
  int32_t accepted_tokens;     /* of those became part of the answer */
  int32_t bits_lowered;        /* 1: some of it was computed at fewer bits, to save energy */
} hearth_usage;

typedef struct hearth_piece {
  size_t size;
  const char* text;      /* whole characters, ends in NUL; valid until the next hearth_next or hearth_stream_free */
  size_t text_bytes;     /* may be 0 */
  const int32_t* tokens; /* generated since the last piece; valid as long as text */
  size_t n_tokens;
  int32_t done;              /* 1 with the last piece */
  hearth_finish finish;      /* if done */
  const hearth_usage* usage; /* if done, else NULL; valid as long as text */
} hearth_piece;
/* clang-format off */
#define HEARTH_PIECE_INIT {sizeof(hearth_piece), NULL, 0, NULL, 0, 0, HEARTH_FINISH_NONE, NULL}
/* clang-format on */

/* Waits for the next piece, at most timeout_ms (-1: as long as it takes; 0: not at all). HEARTH_TIMEOUT gives an empty
 * piece. After the last piece it gives that again, without text. A slow reader gets longer pieces, none is lost. */
HEARTH_API hearth_code hearth_next(hearth_stream* stream, int32_t timeout_ms, hearth_piece* piece, hearth_error* error);
/* Asks for the end: returns at once; hearth_next soon says done. From any thread, any number of times. NULL is allowed. */
HEARTH_API void hearth_cancel(hearth_stream* stream);
/* Cancels if the answer is not done. NULL is allowed. May be called before or after the engine is freed. */
HEARTH_API void hearth_stream_free(hearth_stream* stream);

/* ---- tokens ---- */

/* Texts of control tokens are those tokens: tokenize reads them so, detokenize writes them. */
#define HEARTH_SPECIAL 1u
/* Begin with the token that begins a text, if the model wants one (tokenize). */
#define HEARTH_BOS 2u

/* Writes at most `capacity` ids; *n_tokens becomes how many there are: a larger number than `capacity` asks for a second
 * call. `tokens` may be NULL if `capacity` is 0. */
HEARTH_API hearth_code hearth_tokenize(const hearth_engine* engine, const char* text, size_t text_bytes, unsigned flags,
                                       int32_t* tokens, size_t capacity, size_t* n_tokens, hearth_error* error);
/* The text of the tokens, by the same rule and without a NUL; bytes that are no character come as U+FFFD. */
HEARTH_API hearth_code hearth_detokenize(const hearth_engine* engine, const int32_t* tokens, size_t n_tokens,
                                         unsigned flags, char* text, size_t capacity, size_t* text_bytes,
                                         hearth_error* error);

#ifdef __cplusplus
}
#endif

#endif
