#include "cli/session_file.h"

#include <boost/json/serialize.hpp>

#include "base/json.h"
#include "cli/serve_security.h"

namespace hearth::cli {

std::string note_of(const Conversation& conversation) {
  boost::json::object note;
  if (conversation.messages.empty())
    note["text"] = conversation.text;
  else
    note["messages"] = conversation.messages;
  return boost::json::serialize(note);
}

Result<Conversation> read_note(std::string_view note) {
  const boost::json::value value = TRY(parse_json(note));
  const boost::json::object* object = value.if_object();
  const boost::json::value* messages = object ? object->if_contains("messages") : nullptr;
  const boost::json::value* text = object ? object->if_contains("text") : nullptr;
  Conversation conversation;
  if (messages && messages->is_array())
    conversation.messages = messages->get_array();
  else if (text && text->is_string())
    conversation.text = text->get_string();
  else
    return fail(Code::kMalformed, "what was said is missing");
  return conversation;
}

Result<SessionFile> SessionFile::open(Engine& engine, const std::filesystem::path& path) {
  SessionFile session;
  session.path_ = path;
  std::error_code error;
  if (path.empty() || !std::filesystem::exists(path, error)) return session;
  const Key key = TRY(storage_key());
  const StateIndex index = TRY(engine.load_session(kLocalTenant, path, key));
  auto conversation = read_note(index.note);
  if (!conversation) return within(path.string(), conversation.error());
  session.conversation = std::move(*conversation);
  return session;
}

Result<std::string> SessionFile::ask(const TextSide& side, const std::string& question, const std::string& system,
                                     bool raw) {
  const bool plain = raw || (!side.chat_template && !side.template_error);
  if (plain ? !conversation.messages.empty() : !conversation.text.empty())
    return fail(Code::kInvalidArgument, "{}: {}", path_.string(),
                plain ? "is a chat; go on without --raw" : "was saved with --raw; go on with it");
  if (plain) return conversation.text += question;
  if (conversation.messages.empty() && !system.empty())
    conversation.messages.push_back({{"role", "system"}, {"content", system}});
  conversation.messages.push_back({{"role", "user"}, {"content", question}});
  return render_chat(side, conversation.messages);
}

void SessionFile::answered(const std::string& answer) {
  if (conversation.messages.empty())
    conversation.text += answer;
  else
    conversation.messages.push_back({{"role", "assistant"}, {"content", answer}});
}

Result<void> SessionFile::save(Engine& engine) const {
  if (path_.empty() || (conversation.messages.size() < 2 && conversation.text.empty())) return {};
  const TextSide& side = engine.model().text;
  ChatTemplateOptions as_it_is;
  as_it_is.add_generation_prompt = false;
  const std::string text = conversation.messages.empty()
                               ? conversation.text
                               : TRY(render_chat(side, conversation.messages, std::move(as_it_is)));
  const Key key = TRY(storage_key());
  std::vector<Token> tokens = encode_prompt(*side.tokenizer, text);
  // The last token's state comes with whatever follows.
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(engine.model().decoder->context() - 1)));
  TRY(engine.save_session(kLocalTenant, std::move(tokens), note_of(conversation), path_, key));
  return {};
}

}  // namespace hearth::cli
