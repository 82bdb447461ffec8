// Requests and answers in each dialect, without a server.
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "serve/anthropic.h"
#include "serve/decide.h"
#include "serve/error.h"
#include "serve/ollama.h"
#include "serve/openai_answer.h"
#include "serve/responses.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

template <typename T>
std::string error_of(const Result<T>& result) {
  if (result) return {};
  EXPECT_LT(http_status(result.error()), 500) << result.error().message;
  return result.error().message;
}

// The error of a body by the route that reads it.
std::string read(std::string_view route, const json::value& body) {
  if (route == "chat") return error_of(read_openai_chat(body));
  if (route == "messages") return error_of(read_anthropic(body));
  if (route == "responses") return error_of(read_responses(body));
  if (route == "ollama") return error_of(read_ollama_chat(body));
  if (route == "generate") return error_of(read_ollama_generate(body));
  return error_of(read_decide(body));
}

struct Row {
  std::string_view route, body, begins;  // what the error begins with; empty: there is none
};
constexpr std::array kRows{
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"unknown":{"x":[1]},"max_tokens":null})", ""},
    Row{"chat", R"([])", "the body: need an object"},
    Row{"chat", R"({})", "messages: is missing"},
    Row{"chat", R"({"messages":[]})", "messages: need at least one"},
    Row{"chat", R"({"messages":[{"role":"king","content":"a"}]})", "messages[0].role: need one of"},
    Row{"chat", R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}]})",
        "messages[0].content[1].type: images"},
    Row{"chat", R"({"messages":[{"role":"user","content":3}]})", "messages[0].content: need a string"},
    // LC #25510: a broken call in the conversation's past is the client's fault.
    Row{"chat", R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":"}}]}]})",
        "messages[0].tool_calls[0].function.arguments: "},
    Row{"chat", R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"[1]"}}]}]})",
        "messages[0].tool_calls[0].function.arguments: need an object"},
    Row{"chat", R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":""}}]}]})", ""},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function"}]})",
        "tools[0].function: is missing"},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"tool_choice":"required"})", "tool_choice: "},
    Row{"chat",
        R"({"messages":[{"role":"user","content":"a"}],"tool_choice":{"type":"function","function":{"name":"g"}},
            "tools":[{"type":"function","function":{"name":"f"}}]})",
        "tool_choice: no tool"},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema"}})",
        "response_format.schema: is missing"},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"response_format":{"type":"yaml"}})",
        "response_format.type: need one of"},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"grammar":"root ::= \"a\"","regex":"b"})",
        "regex: cannot be combined with grammar"},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"stop":[1]})", "stop: need a string"},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"logit_bias":{"a":1}})", "logit_bias: "},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"class":"royal"})", "class: "},
    Row{"messages", R"({"messages":[{"role":"user","content":"a"}]})", "max_tokens: is missing"},
    Row{"messages", R"({"max_tokens":5,"messages":[{"role":"user","content":[{"type":"image"}]}]})",
        "messages[0].content[0].type: images"},
    Row{"responses", R"({"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:"}]}]})",
        "input[0].content[0].type: images"},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"lora":[{"id":0,"scale":0.5}]})", "lora[0].scale: "},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"lora":[{"scale":1}]})", "lora[0].id: is missing"},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"lora":[{"id":0,"scale":1},{"id":1,"scale":1}]})",
        "lora[1].id: "},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"lora":[{"id":0,"scale":1},{"id":1,"scale":0}]})", ""},
    Row{"chat", R"({"messages":[{"role":"user","content":"a"}],"lora":{"id":0}})", "lora: need an array"},
    Row{"responses", R"({"input":"a","previous_response_id":"resp_1"})", "previous_response_id: "},
    Row{"responses", R"({"input":[{"type":"function_call","call_id":"1","name":"f","arguments":"{"}]})",
        "input[0].tool_calls"},
    Row{"ollama", R"({"messages":[]})", "model: is missing"},
    Row{"ollama", R"({"model":"m","keep_alive":"soon"})", "keep_alive: "},
    Row{"ollama", R"({"model":"m","messages":[{"role":"user","content":"a","images":["x"]}]})",
        "messages[0].images: images"},
    Row{"ollama", R"({"model":"m","messages":[{"role":"user","content":"a"}],"format":"xml"})", "format: "},
    Row{"generate", R"({"model":"m","prompt":"a","suffix":"b"})", "suffix: "},
    Row{"decide", R"({"state":"a","questions":{}})", "questions: need 1 to"},
    Row{"decide", R"({"questions":{"a":{"type":"choice","criteria":["x"]}}})", "questions.a.criteria: need 2"},
};

Event text(std::string_view text) { return {.text = std::string(text)}; }

// The answer that all writers are given: a thought, a text, a call with its arguments in two pieces, the end.
std::vector<Event> call_events() {
  return {{.kind = Event::Kind::kReasoning, .text = "Hm."},
          text("Sure."),
          {.kind = Event::Kind::kCall, .text = "f", .id = "1"},
          {.kind = Event::Kind::kArguments, .text = "{\"a\":"},
          {.kind = Event::Kind::kArguments, .text = "1}"},
          {.kind = Event::Kind::kCallEnd},
          {.kind = Event::Kind::kFinish}};
}

// The JSON of each "data: " line, and of each line that is JSON itself.
std::vector<json::object> stream_of(AnswerWriter& writer, const std::vector<Event>& events, Answer& answer) {
  std::string bytes = writer.begin();
  answer.choices.resize(1);
  for (const Event& event : events) {
    collect(event, answer.choices[0]);
    bytes += writer.event(event);
  }
  bytes += writer.end(answer);
  std::vector<json::object> out;
  for (size_t at = 0; at < bytes.size();) {
    const size_t end = std::min(bytes.find('\n', at), bytes.size());
    std::string_view line = std::string_view(bytes).substr(at, end - at);
    if (line.starts_with("data: ")) line.remove_prefix(6);
    if (line.starts_with("{")) out.push_back(json::parse(line).as_object());
    at = end + 1;
  }
  return out;
}

}  // namespace

TEST(Dialects, ErrorsNameTheField) {
  for (const Row& row : kRows) {
    const std::string error = read(row.route, json::parse(row.body));
    EXPECT_TRUE(row.begins.empty() ? error.empty() : error.starts_with(row.begins)) << row.body << ": " << error;
  }
}

// CVE-2026-21869 and its like: whatever number comes in whatever field, the answer is a value or an error of the client.
TEST(Dialects, NumbersOutOfRangeAreTheClientsFault) {
  constexpr std::array kNumbers{"-9223372036854775808",
                                "-1",
                                "0",
                                "9223372036854775807",
                                "18446744073709551615",
                                "1e308",
                                "-1e308",
                                "0.5",
                                "\"1\"",
                                "[1]",
                                "true"};
  constexpr std::array kFields{"max_tokens",
                               "n",
                               "top_k",
                               "top_p",
                               "min_p",
                               "temperature",
                               "seed",
                               "presence_penalty",
                               "frequency_penalty",
                               "repetition_penalty",
                               "top_logprobs",
                               "speculative.n_max",
                               "priority",
                               "deadline_ms",
                               "num_ctx",
                               "num_predict",
                               "repeat_last_n",
                               "keep_alive",
                               "max_output_tokens",
                               "abstain_below"};
  for (const std::string_view field : kFields)
    for (const std::string_view number : kNumbers) {
      const std::string given = fmt::format(R"("{}":{})", field, number);
      const json::value body = json::parse(fmt::format(
          R"({{"model":"m","input":"a","prompt":"a","messages":[{{"role":"user","content":"a"}}],"options":{{{}}},
              "questions":{{"q":{{"type":"noul"}}}},{}}})",
          given, given));
      for (const std::string_view route : {"chat", "messages", "responses", "ollama", "generate", "decide"}) {
        const std::string error = read(route, body);
        EXPECT_TRUE(error.empty() || error.contains(field) || error.starts_with("max_tokens"))
            << given << ": " << error;
      }
    }
}

TEST(Dialects, WhatIsToBeGuessedIsRead) {
  const auto chat = [](std::string_view fields) {
    return read_openai_chat(json::parse(fmt::format(R"({{"messages":[{{"role":"user","content":"a"}}]{}}})", fields)));
  };
  EXPECT_EQ(chat("")->options.drafts_max, -1);
  EXPECT_EQ(chat(R"(,"speculative.n_max":0)")->options.drafts_max, 0);
  EXPECT_EQ(chat(R"(,"speculative.n_max":1000)")->options.drafts_max, 15);
  EXPECT_EQ(chat(R"(,"prediction":{"type":"content","content":"abc"})")->options.prediction, "abc");
  EXPECT_EQ(chat(R"(,"prediction":{"type":"content","content":[{"type":"text","text":"abc"}]})")->options.prediction,
            "abc");
  for (const char* wrong : {R"("abc")", R"({"type":"other","content":"a"})", R"({"type":"content","content":5})"}) {
    const auto read = chat(fmt::format(R"(,"prediction":{})", wrong));
    ASSERT_FALSE(read) << wrong;
    EXPECT_TRUE(read.error().message.starts_with("prediction")) << read.error().message;
  }
}

TEST(Dialects, OllamasFormIsRead) {
  const auto read = read_ollama_chat(json::parse(
      R"({"model":"m","keep_alive":"1h30m","think":false,"format":{"type":"object"},"options":{"num_predict":-2,"seed":5},
          "messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},
                      {"role":"tool","tool_name":"f","content":"ok"}]})"));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->keep_alive, std::chrono::seconds(5400));
  EXPECT_TRUE(read->chat.options.stream);
  EXPECT_EQ(read->chat.options.max_tokens, -1);
  EXPECT_EQ(read->chat.options.form.kind, OutputForm::Kind::kSchema);
  EXPECT_EQ(read->chat.template_arguments.at("enable_thinking"), false);
  EXPECT_EQ(read->chat.messages[0].at("tool_calls").at(0).at("function").at("arguments").at("a"), 1);
  EXPECT_TRUE(read_ollama_chat(json::parse(R"({"model":"m","keep_alive":-1})"))->only_loads);
}

// Home Assistant reads only the first call of a chunk, and nothing of the chunk that has the reason.
TEST(Dialects, OpenAiStreamsAreWhatHomeAssistantReads) {
  Answer answer;
  const auto writer = openai_chat_writer({.model = "m", .id = "1", .created = 1, .include_usage = true});
  const auto chunks = stream_of(*writer, call_events(), answer);
  std::string arguments;
  int roles = 0, calls = 0;
  for (const json::object& chunk : chunks) {
    if (chunk.at("choices").as_array().empty()) continue;
    const json::object& choice = chunk.at("choices").at(0).as_object();
    const json::object& delta = choice.at("delta").as_object();
    roles += delta.contains("role") ? 1 : 0;
    if (!choice.at("finish_reason").is_null()) {
      EXPECT_EQ(choice.at("finish_reason"), "tool_calls");
      EXPECT_TRUE(delta.empty());
    }
    const auto* list = delta.if_contains("tool_calls");
    if (!list) continue;
    ASSERT_EQ(list->as_array().size(), 1u);
    const json::object& call = list->at(0).as_object();
    EXPECT_EQ(call.at("index"), 0);
    calls += call.contains("id") ? 1 : 0;
    EXPECT_EQ(call.contains("id"), call.at("function").as_object().contains("name"));
    arguments += call.at("function").at("arguments").as_string();
  }
  EXPECT_EQ(roles, 1);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(arguments, "{\"a\":1}");
  EXPECT_TRUE(chunks.back().contains("usage"));
}

// A call that max_tokens cut off: 200, the reason is length, and no arguments that are no JSON (Home Assistant's first probe).
TEST(Dialects, CallsThatAreCutOffAreNotTold) {
  Choice choice;
  for (const Event& event : {Event{.kind = Event::Kind::kCall, .text = "f", .id = "1"},
                             Event{.kind = Event::Kind::kArguments, .text = "{\"a"},
                             Event{.kind = Event::Kind::kFinish, .finish = Finish::kLength}})
    collect(event, choice);
  const Answer answer{.choices = {choice}, .usage = {}};
  const json::object openai = openai_chat_writer({.model = "m", .id = "1"})->whole(answer);
  EXPECT_EQ(openai.at("choices").at(0).at("finish_reason"), "length");
  EXPECT_FALSE(openai.at("choices").at(0).at("message").as_object().contains("tool_calls"));
  EXPECT_EQ(ollama_writer("m", false)->whole(answer).at("done_reason"), "length");
  EXPECT_EQ(anthropic_writer({.model = "m", .stop = {}})->whole(answer).at("stop_reason"), "max_tokens");
  EXPECT_EQ(responses_writer("m", 1, {})->whole(answer).at("status"), "incomplete");
}

TEST(Dialects, BlocksOpenAndCloseInOrder) {
  Answer answer;
  std::string types;
  for (const json::object& event : stream_of(*anthropic_writer({.model = "m", .stop = {}}), call_events(), answer))
    types += std::string(event.at("type").as_string()) + " ";
  EXPECT_EQ(types,
            "message_start content_block_start content_block_delta content_block_stop content_block_start "
            "content_block_delta content_block_stop content_block_start content_block_delta content_block_delta "
            "content_block_stop message_delta message_stop ");
  Answer other;
  const auto events = stream_of(*responses_writer("m", 1, {}), call_events(), other);
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].at("sequence_number"), i);
  const json::object& response = events.back().at("response").as_object();
  EXPECT_EQ(events.back().at("type"), "response.completed");
  ASSERT_EQ(response.at("output").as_array().size(), 3u);
  EXPECT_EQ(response.at("output").at(2).at("arguments"), "{\"a\":1}");
}

// Ollama's clients take arguments as an object, whole.
TEST(Dialects, OllamaLinesHaveWholeCalls) {
  Answer answer;
  const auto lines = stream_of(*ollama_writer("m", false), call_events(), answer);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0].at("message").at("thinking"), "Hm.");
  EXPECT_EQ(lines[2].at("message").at("tool_calls").at(0).at("function").at("arguments").at("a"), 1);
  EXPECT_EQ(lines[3].at("done"), true);
  EXPECT_TRUE(lines[3].at("total_duration").is_int64());
}

TEST(Decide, ProbabilitiesFollowScoresPriorsAndTemperature) {
  auto request = read_decide(json::parse(
      R"({"questions":{"q":{"type":"score","criteria":{"1":"calm","3":"busy"}}},"calibration":{"prior":{"1":3}},
          "abstain_below":0.9})"));
  ASSERT_TRUE(request) << request.error().message;
  const Question& question = request->questions[0];
  const auto chances = probabilities(*request, question, std::vector{-2.0, -2.0}, {});
  EXPECT_NEAR(chances[0], 0.75, 1e-9);
  const json::object answer = decision(*request, question, chances);
  EXPECT_TRUE(answer.at("score").is_null());
  EXPECT_EQ(answer.at("abstained"), true);
  EXPECT_EQ(answer.at("legend"), "calm");
  request->prior.clear();
  // What the model says without any state is divided out.
  EXPECT_NEAR(probabilities(*request, question, std::vector{-1.0, -3.0}, std::vector{-1.0, -3.0})[0], 0.5, 1e-9);
}

}  // namespace hearth::serve
