#include "serve/all.h"

#include <array>

namespace hearth::serve {

std::span<const Route* const> all_routes() {
  static constexpr std::array kRoutes{
      &kHealth,         &kReady,
      &kMetrics,        &kPage,
      &kPageFile,       &kStatus,
      &kPostFile,       &kGetFiles,
      &kGetFile,        &kDeleteFile,
      &kGetFileContent, &kPostBatch,
      &kGetBatches,     &kGetBatch,
      &kCancelBatch,    &kChat,
      &kChatCount,      &kCompletions,
      &kDecide,         &kEmbeddings,
      &kOllamaEmbed,    &kOllamaEmbeddings,
      &kRerank,         &kSystemOne,
      &kMessages,       &kMessagesCount,
      &kModels,         &kModel,
      &kOllamaChat,     &kOllamaGenerate,
      &kOllamaTags,     &kOllamaPs,
      &kOllamaShow,     &kOllamaPull,
      &kOllamaDelete,   &kOllamaVersion,
      &kResponses,      &kTokenize,
      &kDetokenize,     &kPower,
      &kMemory,         &kSetMemory,
      &kSaveSession,    &kLoadSession,
      &kSessions,       &kDeleteSession,
      &kDoorState,      &kDoorAnswer,
      &kDoorRecords,    &kDoorFind,
      &kDoors,          &kAnswerRest,
      &kSiteView,
  };
  return kRoutes;
}

}  // namespace hearth::serve
