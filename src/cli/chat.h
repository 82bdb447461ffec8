// The interactive chat of `hearth run MODEL`.
#pragma once

#include "cli/answer.h"
#include "cli/session_file.h"

namespace hearth::cli {

// Reads questions from stdin until /bye or the end of input. A line that ends with \ goes on; """ begins and ends a longer text.
// Ctrl-C stops an answer; at the prompt it leaves. Answers go to stdout, everything else to stderr.
// The conversation is the session's, and saved there at the end.
Result<void> chat(Engine& engine, const AnswerOptions& options, SessionFile& session);

}  // namespace hearth::cli
