// Hugging Face's tokenizer files: tokenizer.json and the small files beside it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer.h"

namespace hearth {

// Whole texts of the files of one folder; empty for a file that is not there.
struct TokenizerJsonTexts {
  std::string_view tokenizer = {};           // tokenizer.json
  std::string_view tokenizer_config = {};    // tokenizer_config.json
  std::string_view special_tokens_map = {};  // special_tokens_map.json
  std::string_view generation_config = {};   // generation_config.json
};

struct TokenizerFiles {
  TokenizerData data;
  std::string chat_template;  // of tokenizer_config.json, the one named "default" if there are several; may be empty
};

// Recognises byte-level BPE with the pre-tokenizers of pretokenizer.h, SentencePiece BPE with byte fallback, unigram
// and WordPiece. Errors: kMalformed for text that is no JSON or misses a field, kUnsupported with the name of a model,
// normalizer, pre-tokenizer or option that is not known, kLimit for files, nesting and vocabularies over limits.h. Any
// thread. Tokenizer::create checks what comes out, as for any source.
[[nodiscard]] Result<TokenizerFiles> read_tokenizer_json(const TokenizerJsonTexts& texts);

}  // namespace hearth
