#include "cli/chat.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <iostream>

#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/interrupt.h"

namespace hearth::cli {
namespace {

constexpr std::string_view kHelp =
    "/help         this list\n"
    "/reset        forget the conversation\n"
    "/save FILE    write the conversation as JSON\n"
    "/load FILE    go on from a saved one\n"
    "/stats        speed of the last answer\n"
    "/bye          leave (or Ctrl-D)\n"
    "A line that ends with \\ goes on in the next; \"\"\" begins and ends a longer text. Ctrl-C stops an answer.\n";

class Chat {
 public:
  Chat(Engine& engine, const AnswerOptions& options, SessionFile& session)
      : engine_(engine), options_(options), session_(session), messages_(session.conversation.messages) {
    if (messages_.empty()) reset();
  }

  Result<void> run() {
    fmt::print(stderr, "{} is ready. /help shows what you can type.\n", short_name(options_.model));
    while (const std::optional<std::string> text = read_turn()) {
      if (text->empty()) continue;
      if (*text == "/bye") break;
      const Result<void> done = text->front() == '/' ? command(*text) : answer(*text);
      if (!done) fmt::print(stderr, "hearth: {}\n", done.error().message);
    }
    return session_.save(engine_);
  }

 private:
  void reset() {
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back({{"role", "system"}, {"content", options_.system}});
  }

  static std::optional<std::string> read_line(const char* sign) {
    fmt::print(stderr, "{}", sign);
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }

  static std::optional<std::string> read_turn() {
    std::optional<std::string> text = read_line("> ");
    constexpr std::string_view kQuotes = "\"\"\"";
    if (text && text->starts_with(kQuotes)) {
      text->erase(0, kQuotes.size());
      while (!text->ends_with(kQuotes)) {
        const std::optional<std::string> more = read_line(". ");
        if (!more) return text;
        *text += "\n" + *more;
      }
      text->resize(text->size() - kQuotes.size());
      return text;
    }
    while (text && text->ends_with('\\')) {
      text->back() = '\n';
      const std::optional<std::string> more = read_line(". ");
      if (!more) return text;
      *text += *more;
    }
    return text;
  }

  Result<void> answer(const std::string& question) {
    messages_.push_back({{"role", "user"}, {"content", question}});
    auto done = try_answer();
    // A question that could not be answered is taken back, so that the next one does not meet it again.
    if (!done) messages_.pop_back();
    return done;
  }

  Result<void> try_answer() {
    const std::string prompt = TRY(render_chat(engine_.model().text, messages_));
    InterruptFlag interrupt;
    const Answer answer = TRY(answer_prompt(engine_, options_, prompt, interrupt.flag(), [](std::string_view piece) {
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
    }));
    fmt::print("\n");
    std::fflush(stdout);
    if (answer.finish == Finish::kContext)
      fmt::print(stderr, "(the context is full: /reset, or start with a larger --context)\n");
    if (options_.stats) fmt::print(stderr, "{}\n", stats_line(answer.usage, engine_.stats()));
    messages_.push_back({{"role", "assistant"}, {"content", answer.text}});
    usage_ = answer.usage;
    return {};
  }

  Result<void> command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string word = line.substr(0, space), argument = space == line.npos ? "" : line.substr(space + 1);
    if (word == "/help")
      fmt::print(stderr, "{}", kHelp);
    else if (word == "/reset")
      reset();
    else if (word == "/stats")
      fmt::print(stderr, "{}\n", stats_line(usage_, engine_.stats()));
    else if (word == "/save")
      return save(argument);
    else if (word == "/load")
      return load_conversation(argument);
    else
      return fail(Code::kInvalidArgument, "no command {}; /help lists them", word);
    return {};
  }

  Result<void> save(const std::string& path) const {
    if (path.empty()) return fail(Code::kInvalidArgument, "/save needs a file name");
    const std::string text = boost::json::serialize(boost::json::object{{"messages", messages_}}) + "\n";
    TRY(write_file_atomically(path, std::as_bytes(std::span(text))));
    fmt::print(stderr, "{} messages written to {}\n", messages_.size(), path);
    return {};
  }

  Result<void> load_conversation(const std::string& path) {
    if (path.empty()) return fail(Code::kInvalidArgument, "/load needs a file name");
    const std::string text = TRY(read_file(path, limits::kPromptBytes));
    auto value = parse_json(text);
    if (!value) return within(path, value.error());
    const boost::json::object* object = value->if_object();
    const boost::json::value* messages = object ? object->if_contains("messages") : nullptr;
    if (!messages || !messages->is_array())
      return fail(Code::kMalformed, "{}: not a saved conversation (no \"messages\")", path);
    messages_ = messages->get_array();
    fmt::print(stderr, "{} messages read from {}\n", messages_.size(), path);
    return {};
  }

  Engine& engine_;
  const AnswerOptions& options_;
  SessionFile& session_;
  boost::json::array& messages_;  // the session's
  Usage usage_;
};

}  // namespace

Result<void> chat(Engine& engine, const AnswerOptions& options, SessionFile& session) {
  const TextSide& text = engine.model().text;
  if (!text.chat_template && !text.template_error)
    return fail(Code::kUnsupported,
                "this model has no chat template (a base model); give a text to go on from: hearth run {} \"Once upon "
                "a time\" --raw",
                options.model.model);
  if (!session.conversation.text.empty())
    return fail(Code::kInvalidArgument, "{}: was saved with --raw; go on with it and a prompt",
                options.session.string());
  return Chat(engine, options, session).run();
}

}  // namespace hearth::cli
