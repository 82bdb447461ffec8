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

// Packs
inline constexpr uint64_t kPackManifestBytes = 64u << 20;
inline constexpr uint64_t kPackSegments = 1 << 20;  // layers times experts
inline constexpr uint64_t kPackTextBytes = 256u << 20;
inline constexpr uint64_t kPackTextFiles = 16;

// Model shapes
inline constexpr uint32_t kLayers = 512;
inline constexpr uint32_t kWidth = 1 << 17;  // d_model, d_ffn, n_heads * head_dim
inline constexpr uint32_t kHeads = 1024;
inline constexpr uint32_t kHeadDim = 1024;
inline constexpr uint32_t kExperts = 1024;
inline constexpr uint32_t kAdapterRank = 1024;
inline constexpr uint32_t kVocabulary = 1 << 21;
inline constexpr uint32_t kEncoderPositions = 1 << 15;
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

// Grammars and schemas that answers keep to
inline constexpr uint64_t kGrammarBytes = 1u << 20;      // GBNF, a regular expression, all choices
inline constexpr uint64_t kGrammarRules = 4096;          // named rules of one GBNF text
inline constexpr uint64_t kGrammarDepth = 200;           // groups in groups
inline constexpr uint64_t kGrammarRepetition = 100'000;  // the m and n of {m,n} in GBNF and regular expressions
inline constexpr uint64_t kGrammarStates = 1u << 20;     // of the automaton
inline constexpr uint64_t kGrammarStackDepth = 512;      // rules in rules, of a grammar and of an answer
inline constexpr uint64_t kGrammarChoices = 10'000;
inline constexpr uint64_t kSchemaNodes = 20'000;  // schemas in a schema, after references are followed
inline constexpr uint64_t kSchemaEnum = 10'000;
inline constexpr uint64_t kMaskCacheBytes = 64u << 20;  // of one grammar and model; then it starts anew
inline constexpr uint64_t kMaskGrammars = 16;           // grammars with a cache, of one model

// Saved states
inline constexpr uint64_t kStateIndexBytes = 160u << 20;  // tokens of the longest context, and a conversation's text

// Requests
inline constexpr uint64_t kStopTexts = 16;
inline constexpr uint64_t kStopBytes = 1024;
inline constexpr uint64_t kCandidates = 256;  // of one request that is scored
inline constexpr int kLogprobs = 64;          // alternatives of one token
inline constexpr uint64_t kBatchLines = 50'000;
inline constexpr uint64_t kFormParts = 16;
inline constexpr int kChoices = 16;  // answers to one prompt
inline constexpr uint64_t kTools = 512;
inline constexpr uint64_t kLogitBiases = 1024;
inline constexpr uint64_t kInputs = 2048;  // texts of one request for embeddings, prompts or documents

// Store and downloads
inline constexpr uint64_t kModelNameBytes = 128;
inline constexpr uint64_t kManifestBytes = 1u << 20;
inline constexpr uint64_t kModelFiles = 2048;         // files of one model in the store
inline constexpr uint64_t kOllamaModels = 4096;       // entries of one folder of Ollama's manifests, and of all
inline constexpr uint64_t kRememberedSources = 4096;  // files whose SHA-256 the cache of packs remembers
inline constexpr uint64_t kUrlBytes = 8192;
inline constexpr int kRedirects = 10;
inline constexpr uint64_t kHttpHeaderBytes = 256u << 10;  // all headers of one answer
inline constexpr uint64_t kRepositoryListingBytes = 16u << 20;
inline constexpr uint64_t kErrorPageBytes = 64u << 10;  // read from an answer that is no success, then dropped
inline constexpr int kRetryAfterSeconds = 60;           // a server may ask for no longer a pause

// The server
inline constexpr uint64_t kHttpHeadBytes = 32u << 10;   // request line and headers
inline constexpr uint64_t kHttpTargetBytes = 8u << 10;  // path and query
inline constexpr uint64_t kHttpHeaders = 100;
inline constexpr uint64_t kHttpBodyBytes = 4u << 20;       // unless the user sets another
inline constexpr uint64_t kHttpPipelineBytes = 64u << 10;  // read ahead while a request is answered
inline constexpr uint64_t kHttpStreamBufferBytes = 1u << 20;
inline constexpr uint64_t kHttpJsonDepth = 64;
inline constexpr int kHttpConnections = 512;
inline constexpr int kHttpConnectionsPerPeer = 256;

// Machines of a site
inline constexpr uint64_t kFrameBytes = 256u << 20;
inline constexpr uint64_t kFrameRows = 4096;
inline constexpr uint64_t kHeadTokens = 512;             // most likely ones of a row
inline constexpr uint64_t kHeadAnswerValues = 4u << 20;  // of several rows
inline constexpr uint64_t kFrameTextBytes = 1024;
inline constexpr uint64_t kPieceOfModelBytes = 4u << 20;
inline constexpr uint64_t kStageSequences = 1 << 16;
inline constexpr uint64_t kStages = 64;  // of one chain
inline constexpr int kNodeConnections = 64;
inline constexpr uint64_t kDoorFrameBytes = 64u << 20;
inline constexpr uint64_t kDoorRecords = 4096;  // of requests that may be resumed
inline constexpr uint64_t kDoorRecordBytes = 64u << 20;
inline constexpr uint64_t kDoors = 64;  // other machines' doors
inline constexpr uint64_t kDoorStateBytes = 1u << 20;
inline constexpr uint64_t kRequestIdBytes = 200;
inline constexpr uint64_t kCloudAnswerBytes = 8u << 20;
inline constexpr uint64_t kPemBytes = 64u << 10;

// Devices
inline constexpr uint64_t kGatewayConfigBytes = 16u << 20;
inline constexpr uint64_t kGatewaySignals = 1 << 17;
inline constexpr uint64_t kGatewayNameBytes = 128;   // of a signal
inline constexpr uint64_t kGatewayTextBytes = 1024;  // a value that is a text
inline constexpr uint64_t kGatewayMessageBytes = 1u << 20;
inline constexpr uint64_t kGatewayJsonDepth = 16;
inline constexpr uint64_t kDbcBytes = 16u << 20;  // what frames of a CAN bus mean; large ones of cars reach 2 MB
inline constexpr uint64_t kDbcMessages = 1 << 14;
inline constexpr uint64_t kDbcSignals = 1024;  // of one message
inline constexpr uint64_t kDbcNameBytes = 128;
inline constexpr uint64_t kDbcTexts = 1 << 18;      // of values, all together
inline constexpr uint64_t kDbcTextBytes = 1024;     // of one, and of a unit
inline constexpr uint64_t kCandumpLineBytes = 512;  // FD frames have 150
inline constexpr uint64_t kCoapResources = 1024;    // of one device

}  // namespace hearth::limits
