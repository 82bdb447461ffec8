#include <boost/json/array.hpp>
#include <charconv>

#include "base/limits.h"
#include "engine/speculation.h"
#include "serve/chat_request.h"

namespace hearth::serve {
namespace {

constexpr int kAlternativesMax = 20;
constexpr int64_t kTokensMax = limits::kContext;
constexpr double kPenaltyMax = 2, kBiasMax = 100, kTemperatureMax = 100, kRepetitionMax = 10;

void read_logit_bias(Fields& body, SamplingOptions& sampling) {
  const auto* biases = body.object("logit_bias");
  if (!biases) return;
  if (biases->size() > limits::kLogitBiases)
    return body.wrong("logit_bias", fmt::format("{} entries, the limit is {}", biases->size(), limits::kLogitBiases));
  Fields fields(*biases, body.path_of("logit_bias"));
  for (const auto& member : *biases) {
    const std::string_view key = member.key();
    Token token = 0;
    const auto [end, failed] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (failed != std::errc() || end != key.data() + key.size() || token < 0)
      return body.wrong("logit_bias", "its keys have to be token ids");
    if (const auto bias = fields.number(key, -kBiasMax, kBiasMax))
      sampling.logit_bias.emplace_back(token, static_cast<float>(*bias));
  }
  if (const auto checked = fields.check(); !checked) body.wrong(checked.error());
}

void read_sampling(Fields& body, AnswerOptions& options) {
  SamplingOptions& sampling = options.sampling;
  auto into = [&](float& target, std::string_view name, double least, double most) {
    if (const auto number = body.number(name, least, most)) target = static_cast<float>(*number);
  };
  into(sampling.temperature, "temperature", 0, kTemperatureMax);
  into(sampling.top_p, "top_p", 0, 1);
  into(sampling.min_p, "min_p", 0, 1);
  into(sampling.presence_penalty, "presence_penalty", -kPenaltyMax, kPenaltyMax);
  into(sampling.frequency_penalty, "frequency_penalty", -kPenaltyMax, kPenaltyMax);
  for (const std::string_view name : {"repetition_penalty", "repeat_penalty"})
    into(sampling.repetition_penalty, name, 0, kRepetitionMax);
  if (const auto top_k = body.integer("top_k", -1, limits::kVocabulary))
    sampling.top_k = std::max(0, static_cast<int>(*top_k));
  if (const auto seed = body.integer("seed", INT64_MIN, INT64_MAX); seed && *seed != -1) {
    sampling.seed = static_cast<uint64_t>(*seed);
    options.seed_given = true;
  }
  read_logit_bias(body, sampling);
}

// llama-server's form: [{"id": 0, "scale": 1}]; adapters that are not named are off.
void read_lora(Fields& body, AnswerOptions& options) {
  const auto* list = body.array("lora");
  if (!list) return;
  options.lora = -1;
  for (size_t i = 0; i < list->size(); ++i) {
    Fields item((*list)[i], fmt::format("{}[{}]", body.path_of("lora"), i));
    const auto id = item.integer("id", 0, INT32_MAX);
    if (!id) item.wrong("id", "is missing");
    const double scale = item.number("scale", -1e9, 1e9).value_or(0);
    if (scale != 0 && scale != 1) item.wrong("scale", "need 0 or 1: adapters are used as they are");
    if (scale != 0 && *options.lora >= 0) item.wrong("id", "one adapter at a time");
    if (const auto checked = item.check(); !checked) return body.wrong(checked.error());
    if (scale != 0) options.lora = static_cast<int>(*id);
  }
}

// What concerns guessed tokens: {"type": "content", "content": TEXT} of OpenAI, and llama-server's bound. And early exit.
void read_guesses(Fields& body, AnswerOptions& options) {
  if (const auto most = body.integer("speculative.n_max", 0, INT32_MAX))
    options.drafts_max = static_cast<int>(std::min<int64_t>(*most, kDraftMax));
  options.exit_kld = body.number("exit_kld", 0, 10).value_or(-1);
  const auto* given = body.object("prediction");
  if (!given) return;
  Fields fields(*given, body.path_of("prediction"));
  fields.word("type", {"content"});
  options.prediction = read_content(fields, "content");
  if (const auto checked = fields.check(); !checked) body.wrong(checked.error());
}

// All the fields by which clients of several servers ask for a form of output; more than one is refused.
class FormReader {
 public:
  FormReader(Fields& body, OutputForm& form) : body_(body), form_(form) {}

  void read() {
    read_format("response_format");
    for (const std::string_view name : {"json_schema", "guided_json"}) take_schema(body_, name);
    for (const std::string_view name : {"grammar", "guided_grammar"}) take_text(body_, name, OutputForm::Kind::kGbnf);
    for (const std::string_view name : {"regex", "guided_regex"}) take_text(body_, name, OutputForm::Kind::kRegex);
    for (const std::string_view name : {"choices", "guided_choice"}) take_choices(body_, name);
    if (const auto* given = body_.object("structured_outputs")) {
      Fields fields(*given, body_.path_of("structured_outputs"));
      take_schema(fields, "json");
      take_text(fields, "grammar", OutputForm::Kind::kGbnf);
      take_text(fields, "regex", OutputForm::Kind::kRegex);
      take_choices(fields, "choice");
      pass_on(fields);
    }
  }

  void read_format(std::string_view field) {
    const auto* given = body_.object(field);
    if (!given) return;
    Fields format(*given, body_.path_of(field));
    const auto type = format.word("type", {"text", "json_object", "json_schema"});
    if (!type) format.wrong("type", "is missing");
    if (type == 1 && !format.find("schema")) take(format, "type", {.kind = OutputForm::Kind::kJsonObject});
    const auto* named = type == 2 ? format.object("json_schema") : nullptr;
    Fields fields(named ? *named : *given, named ? format.path_of("json_schema") : body_.path_of(field));
    if (type == 2 && !fields.find("schema")) fields.wrong("schema", "is missing");
    if (type && *type != 0) take_schema(fields, "schema");
    pass_on(fields);
    pass_on(format);
  }

 private:
  void take(Fields& fields, std::string_view name, OutputForm form) {
    form.field = fields.path_of(name);
    if (form_.kind != OutputForm::Kind::kText) return fields.wrong(name, "cannot be combined with " + form_.field);
    form_ = std::move(form);
  }
  void take_schema(Fields& fields, std::string_view name) {
    const auto* schema = fields.find(name);
    if (!schema) return;
    if (!schema->is_object() && !schema->is_bool())
      return fields.wrong(name, fmt::format("need a schema, got {}", kind_of(*schema)));
    take(fields, name, {.kind = OutputForm::Kind::kSchema, .schema = *schema});
  }
  void take_text(Fields& fields, std::string_view name, OutputForm::Kind kind) {
    auto text = fields.text(name);
    if (text && !text->empty()) take(fields, name, {.kind = kind, .source = std::move(*text)});
  }
  void take_choices(Fields& fields, std::string_view name) {
    if (!fields.find(name)) return;
    auto choices = fields.texts(name);
    if (choices.empty()) return fields.wrong(name, "need at least one choice");
    take(fields, name, {.kind = OutputForm::Kind::kChoices, .choices = std::move(choices)});
  }
  void pass_on(const Fields& inner) {
    if (const auto checked = inner.check(); !checked) body_.wrong(checked.error());
  }

  Fields& body_;
  OutputForm& form_;
};

}  // namespace

Result<Grammar::Shared> grammar_of(const OutputForm& form) {
  Result<Grammar::Shared> grammar(nullptr);
  switch (form.kind) {
    case OutputForm::Kind::kText:
      return grammar;
    case OutputForm::Kind::kJsonObject:
      grammar = Grammar::from_json_object();
      break;
    case OutputForm::Kind::kSchema:
      grammar = Grammar::from_json_schema(form.schema);
      break;
    case OutputForm::Kind::kGbnf:
      grammar = Grammar::from_gbnf(form.source);
      break;
    case OutputForm::Kind::kRegex:
      grammar = Grammar::from_regex(form.source);
      break;
    case OutputForm::Kind::kChoices:
      grammar = Grammar::from_choices(form.choices);
      break;
  }
  if (!grammar) return within(form.field, grammar.error());
  return grammar;
}

void read_response_format(Fields& holder, std::string_view name, OutputForm& form) {
  FormReader(holder, form).read_format(name);
}

void read_scheduling(Fields& body, AnswerOptions& options) {
  constexpr int kPriorityMax = 1000;
  constexpr double kDeadlineMaxMs = 1e9;
  for (const std::string& stop : body.texts("stop"))
    if (!stop.empty()) options.stop.push_back(stop);
  if (const auto name = body.text("class")) {
    const auto parsed = parse_request_class(*name);
    if (!parsed) body.wrong("class", parsed.error().message);
    options.request_class = parsed.value_or(RequestClass::kInteractive);
  }
  options.priority = static_cast<int>(body.integer("priority", -kPriorityMax, kPriorityMax).value_or(0));
  if (const auto deadline = body.number("deadline_ms", 0, kDeadlineMaxMs)) options.deadline_seconds = *deadline / 1e3;
}

void read_answer_options(Fields& body, AnswerOptions& options) {
  read_sampling(body, options);
  read_guesses(body, options);
  read_scheduling(body, options);
  read_lora(body, options);
  for (const std::string_view name : {"n_predict", "max_tokens", "max_completion_tokens"})
    if (const auto most = body.integer(name, -1, kTokensMax)) options.max_tokens = static_cast<int>(*most);
  options.n = static_cast<int>(body.integer("n", 1, limits::kChoices).value_or(1));
  options.ignore_eos = body.flag("ignore_eos").value_or(false);
  options.stream = body.flag("stream").value_or(false);
  if (const auto* stream = body.object("stream_options")) {
    Fields fields(*stream, body.path_of("stream_options"));
    options.include_usage = fields.flag("include_usage").value_or(false);
    if (const auto checked = fields.check(); !checked) body.wrong(checked.error());
  }
  if (const auto* given = body.find("logprobs"); given && given->is_bool()) {
    const auto top = body.integer("top_logprobs", 0, kAlternativesMax);
    if (given->get_bool()) options.logprobs = static_cast<int>(top.value_or(0));
  } else if (given) {
    options.logprobs = static_cast<int>(body.integer("logprobs", 0, kAlternativesMax).value_or(-1));
  } else if (body.integer("top_logprobs", 0, kAlternativesMax).value_or(0) > 0) {
    body.wrong("top_logprobs", "needs logprobs: true");
  }
  FormReader(body, options.form).read();
}

}  // namespace hearth::serve
