// The routes there are. To add one: its file, its line here, in all.cc and in CMakeLists.txt.
#pragma once

#include "serve/route.h"

namespace hearth::serve {

extern const Route kHealth, kReady;
extern const Route kEmbeddings, kOllamaEmbed, kOllamaEmbeddings, kRerank;
extern const Route kPostFile, kGetFiles, kGetFile, kDeleteFile, kGetFileContent;
extern const Route kPostBatch, kGetBatches, kGetBatch, kCancelBatch;
extern const Route kMetrics, kPower, kMemory, kSetMemory;
extern const Route kPage, kPageFile, kStatus;
extern const Route kChat, kChatCount, kResponses, kMessages, kMessagesCount;
extern const Route kCompletions;
extern const Route kDecide, kSystemOne;
extern const Route kModels, kModel;
extern const Route kOllamaChat, kOllamaGenerate;
extern const Route kOllamaTags, kOllamaPs, kOllamaShow, kOllamaPull, kOllamaDelete, kOllamaVersion;
extern const Route kSaveSession, kLoadSession, kSessions, kDeleteSession;
extern const Route kSiteView;
extern const Route kDoorState, kDoorAnswer, kDoorRecords, kDoorFind, kDoors, kAnswerRest;
extern const Route kTokenize, kDetokenize;

}  // namespace hearth::serve
