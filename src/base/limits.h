// The one table of limits on what comes from outside. A value above its limit is refused with an error that names the limit.
#pragma once

#include <cstdint>

namespace hearth::limits {

// Model files
inline constexpr uint64_t kMetadataKeys = 1 << 16;
inline constexpr uint64_t kMetadataKeyBytes = 1 << 10;
inline constexpr uint64_t kStringBytes = 16u << 20;    // one metadata string: templates of real models reach 50 kB
inline constexpr uint64_t kArrayElements = 16u << 20;  // vocabularies reach 262,144, merges 500,000
inline constexpr uint64_t kTensors = 1 << 17;
inline constexpr uint64_t kTensorNameBytes = 256;
inline constexpr uint64_t kTensorDims = 4;
inline constexpr uint64_t kTensorElements = 1ull << 40;
inline constexpr uint64_t kFileBytes = 1ull << 44;
inline constexpr uint64_t kSplitFiles = 1000;
inline constexpr uint64_t kAlignment = 1 << 20;
inline constexpr uint64_t kJsonFileBytes = 64u << 20;  // tokenizer.json of a 262k vocabulary has 33 MB
inline constexpr uint64_t kJsonDepth = 64;

// Model shapes
inline constexpr uint32_t kLayers = 512;
inline constexpr uint32_t kWidth = 1 << 17;  // d_model, d_ffn, n_heads * head_dim
inline constexpr uint32_t kHeads = 1024;
inline constexpr uint32_t kHeadDim = 1024;
inline constexpr uint32_t kExperts = 1024;
inline constexpr uint32_t kVocabulary = 1 << 21;
inline constexpr uint32_t kContext = 1u << 24;

// Text
inline constexpr uint64_t kTokenBytes = 1 << 16;
inline constexpr uint64_t kSpecialTokenBytes = 16u << 20;  // texts of control and user-defined tokens together
inline constexpr uint64_t kPieceBytes = 512;               // unigram and WordPiece try every prefix; real ones have 48
inline constexpr uint64_t kReplacementBytes = 256;         // one rule of a precompiled charsmap; real ones reach 36
inline constexpr uint64_t kPromptBytes = 64u << 20;
inline constexpr uint64_t kTemplateBytes = 1u << 20;
inline constexpr uint64_t kTemplateDepth = 64;   // nesting of its syntax and of its values
inline constexpr uint64_t kTemplateCalls = 256;  // macros in macros
inline constexpr uint64_t kTemplateSteps = 4'000'000;
inline constexpr uint64_t kTemplateOutputBytes = 4u << 20;
inline constexpr uint64_t kTemplateRange = 100'000;
inline constexpr uint64_t kTemplateMemoryBytes = 32u << 20;  // values alive at one time

// Store and downloads
inline constexpr uint64_t kModelNameBytes = 128;
inline constexpr uint64_t kManifestBytes = 1u << 20;
inline constexpr uint64_t kModelFiles = 2048;  // files of one model in the store
inline constexpr uint64_t kUrlBytes = 8192;
inline constexpr int kRedirects = 10;
inline constexpr uint64_t kHttpHeaderBytes = 256u << 10;  // all headers of one answer
inline constexpr uint64_t kRepositoryListingBytes = 16u << 20;
inline constexpr uint64_t kErrorPageBytes = 64u << 10;  // read from an answer that is no success, then dropped
inline constexpr int kRetryAfterSeconds = 60;           // a server may ask for no longer a pause

}  // namespace hearth::limits
