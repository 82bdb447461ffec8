// A conversation that `hearth run --session FILE` goes on with: what was said and the state it left, in one sealed file.
#pragma once

#include <boost/json/array.hpp>
#include <filesystem>
#include <string>
#include <string_view>

#include "engine/engine.h"

namespace hearth::cli {

// Whose requests `run` makes, as the server names those without a key.
inline constexpr const char* kLocalTenant = "local";

// What was said as {"messages": [...]}, or {"text": ...} where there is no template; and back. kMalformed.
struct Conversation {
  boost::json::array messages;
  std::string text;
};
std::string note_of(const Conversation& conversation);
Result<Conversation> read_note(std::string_view note);

class SessionFile {
 public:
  // Goes on with what the file has, if it is there; its errors say in what model or options differ. Without a path there is a
  // conversation, but no file.
  static Result<SessionFile> open(Engine& engine, const std::filesystem::path& path);
  // Adds a question and gives the prompt, through the model's template or, if `raw` or there is none, as it stands.
  Result<std::string> ask(const TextSide& side, const std::string& question, const std::string& system, bool raw);
  void answered(const std::string& answer);
  Result<void> save(Engine& engine) const;

  Conversation conversation;

 private:
  std::filesystem::path path_;
};

}  // namespace hearth::cli
