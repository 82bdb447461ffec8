// An answer as events, whatever dialect it goes out in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/stream.h"
#include "serve/chat_prompt.h"

namespace hearth::serve {

struct Event {
  enum class Kind : uint8_t { kText, kReasoning, kCall, kArguments, kCallEnd, kFinish };
  Kind kind = Kind::kText;
  int choice = 0;         // which of the n answers
  int call = 0;           // of a call: its place in the answer
  std::string text = {};  // the text or thoughts; the function's name; the next characters of the arguments
  std::string id = {};    // kCall
  std::vector<TokenLogprob> logprobs = {};  // kText, if asked for; the text may then be empty
  Finish finish = Finish::kEnd;             // kFinish
};

struct Call {
  std::string id, name, arguments;
  bool whole = false;  // otherwise it was cut off and its arguments may be no JSON
};

// One answer, complete.
struct Choice {
  std::string text, reasoning;
  std::vector<Call> calls;  // whole ones
  std::vector<TokenLogprob> logprobs;
  Finish finish = Finish::kEnd;
};

// All answers to a request.
struct Answer {
  std::vector<Choice> choices;
  Usage usage;              // of the prompt once, of the answers together
  double load_seconds = 0;  // until the model was there
  double total_seconds = 0;
};

// Whether an answer ended because a limit was reached rather than by itself.
[[nodiscard]] bool is_cut_off(Finish finish);

// Turns the pieces of one answer into events. Not shared between threads.
class EventReader {
 public:
  // `drop`: texts of tokens that end an answer, which are not part of it though they may appear (ChatPrompt::special).
  // `id`: of the answer; those of its calls begin with it.
  EventReader(const AnswerForm& form, int choice, std::vector<std::string> drop, std::string id);
  std::vector<Event> read(const Piece& piece);

 private:
  void split(std::vector<ReasoningPart> parts, std::vector<Event>& events);
  void add(std::vector<ToolPart> parts, std::vector<Event>& events);
  std::string without_ends(std::string_view text, bool last);

  int choice_;
  std::string id_;
  int calls_ = 0;
  bool has_tools_;
  ReasoningSplitter reasoning_;
  ToolCallParser tools_;
  std::vector<std::string> drop_;
  std::string held_;
};

// Adds an event to the answer it belongs to.
void collect(const Event& event, Choice& choice);

// Adds what an answer took, `joules` and `joules_source`, where that is known, and whether some of it was computed at fewer bits.
void add_own_usage(boost::json::object& usage_json, const Usage& usage);

// Letters and digits of a fresh random number, for ids.
std::string random_id();

// How a dialect writes answers. One per request; not shared between threads.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;
  [[nodiscard]] virtual std::string_view stream_type() const { return "text/event-stream"; }
  // The beginning of a stream; then one for each event; then the end.
  virtual std::string begin() { return {}; }
  virtual std::string event(const Event& event) = 0;
  virtual std::string end(const Answer& totals) = 0;
  // Instead of the rest of a stream that has begun.
  virtual std::string failed(const Error& error) = 0;
  // The whole answer as JSON.
  virtual boost::json::object whole(const Answer& answer) = 0;
};

// "data: {...}\n\n", with "event: type" before it if there is a type.
std::string server_event(const boost::json::object& data, std::string_view type = {});

}  // namespace hearth::serve
