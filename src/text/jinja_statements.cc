#include <algorithm>
#include <array>

#include "base/limits.h"
#include "text/jinja_compiler.h"

namespace hearth::jinja {

Result<Program> compile(std::string_view source) { return Compiler(TRY(tokenize(source))).run(); }

Result<Program> Compiler::run() {
  program_.varargs_name = name_id("varargs");
  program_.kwargs_name = name_id("kwargs");
  program_.caller_name = name_id("caller");
  program_.loop_name = name_id("loop");
  if (!parse_body("") || error_) return std::unexpected(*std::move(error_));
  emit(Op::kHalt);
  return std::move(program_);
}

bool Compiler::error(Code code, std::string message) {
  if (!error_) error_ = Error{code, fmt::format("chat template line {}: {}", peek().line, message)};
  return false;
}

bool Compiler::enter() { return ++depth_ <= limits::kTemplateDepth || too_deep(); }

bool Compiler::too_deep() {
  return error(Code::kLimit, fmt::format("nests deeper than {} levels", limits::kTemplateDepth));
}

bool Compiler::syntax_error(std::string_view what) {
  return error(Code::kMalformed, fmt::format("expected {}, found {}", what, describe(peek())));
}

std::string Compiler::describe(const Token& token) const {
  switch (token.kind) {
    case TokenKind::kData:
      return "text";
    case TokenKind::kVariableBegin:
      return "'{{'";
    case TokenKind::kVariableEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kEnd:
      return "the end of the template";
    default:
      return fmt::format("'{}'", token.text.substr(0, 40));
  }
}

bool Compiler::accept_operator(std::string_view op) {
  if (!peek().is_operator(op)) return false;
  next();
  return true;
}

bool Compiler::accept_name(std::string_view name) {
  if (!peek().is_name(name)) return false;
  next();
  return true;
}

bool Compiler::expect_operator(std::string_view op) {
  return accept_operator(op) || syntax_error(fmt::format("'{}'", op));
}

bool Compiler::expect_block_end() {
  if (peek().kind != TokenKind::kBlockEnd) return syntax_error("'%}'");
  next();
  return true;
}

int32_t Compiler::emit(Op op, int32_t arg, int32_t extra, uint8_t sub) {
  program_.code.push_back({op, sub, arg, extra, peek().line});
  return here() - 1;
}

Value Compiler::string_constant(std::string_view text) {
  return program_.constants[static_cast<size_t>(text_constant(text))];
}

int32_t Compiler::constant(Value value) {
  program_.constants.push_back(std::move(value));
  return static_cast<int32_t>(program_.constants.size() - 1);
}

int32_t Compiler::text_constant(std::string_view text) {
  if (const auto found = text_constants_.find(text); found != text_constants_.end()) return found->second;
  StringObject& object = program_.strings.emplace_back();
  object.refs = Object::kImmortal;
  object.owned = text;
  object.view = object.owned;
  const int32_t id = constant(Value(Kind::kString, &object));
  text_constants_.emplace(object.view, id);
  return id;
}

int32_t Compiler::name_id(std::string_view name) {
  if (const auto found = program_.name_ids.find(name); found != program_.name_ids.end()) return found->second;
  const Value text = string_constant(name);
  const auto id = static_cast<int32_t>(program_.names.size());
  program_.names.push_back(text);
  program_.name_ids.emplace(text.text(), id);
  return id;
}

// Up to a block that starts with one of `ends`, whose name is then the current token; without `ends` up to the end.
bool Compiler::parse_body(std::string_view ends) {
  if (!enter()) return false;
  for (;;) {
    switch (peek().kind) {
      case TokenKind::kData:
        emit(Op::kText, text_constant(next().text));
        break;
      case TokenKind::kVariableBegin:
        if (!parse_output()) return false;
        break;
      case TokenKind::kBlockBegin:
        next();
        if (ends_body(ends)) {
          leave();
          return true;
        }
        if (!parse_statement()) return false;
        break;
      case TokenKind::kEnd:
        leave();
        return ends.empty() || missing_end(ends);
      default:
        return syntax_error("text or a tag");
    }
  }
}

bool Compiler::ends_body(std::string_view ends) const {
  if (peek().kind != TokenKind::kName) return false;
  while (!ends.empty()) {
    const size_t size = std::min(ends.find(' '), ends.size());
    if (peek().text == ends.substr(0, size)) return true;
    ends.remove_prefix(std::min(size + 1, ends.size()));
  }
  return false;
}

bool Compiler::missing_end(std::string_view ends) {
  return syntax_error(fmt::format("'{{% {} %}}'", ends.substr(ends.rfind(' ') + 1)));
}

bool Compiler::parse_output() {
  next();
  if (!parse_tuple()) return false;
  emit(Op::kEmit);
  if (peek().kind != TokenKind::kVariableEnd) return syntax_error("'}}'");
  next();
  return true;
}

Compiler::Statement Compiler::statement_named(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Statement>, 10> kStatements{
      {{"if", &Compiler::parse_if},
       {"for", &Compiler::parse_for},
       {"set", &Compiler::parse_set},
       {"macro", &Compiler::parse_macro},
       {"call", &Compiler::parse_call_block},
       {"filter", &Compiler::parse_filter_block},
       {"with", &Compiler::parse_with},
       {"generation", &Compiler::parse_generation},
       {"break", &Compiler::parse_break},
       {"continue", &Compiler::parse_continue}}};
  for (const auto& [known, statement] : kStatements)
    if (known == name) return statement;
  return &Compiler::unknown_statement;
}

bool Compiler::parse_statement() {
  if (peek().kind != TokenKind::kName) return syntax_error("a statement");
  const Statement statement = statement_named(peek().text);
  if (statement != &Compiler::unknown_statement) next();
  return (this->*statement)();
}

bool Compiler::unknown_statement() {
  static constexpr std::array<std::string_view, 8> kUnsupported = {"extends", "include", "import", "from",
                                                                   "block",   "do",      "trans",  "autoescape"};
  const std::string& name = peek().text;
  if (std::find(kUnsupported.begin(), kUnsupported.end(), name) != kUnsupported.end())
    return error(Code::kUnsupported, fmt::format("'{{% {} %}}' is not part of chat templates", name));
  return syntax_error("a statement");
}

// The end tag named `name`, whose block start and name parse_body left current.
bool Compiler::end_statement(std::string_view name) {
  if (!accept_name(name)) return syntax_error(fmt::format("'{{% {} %}}'", name));
  return expect_block_end();
}

bool Compiler::parse_if() {
  int32_t ends = -1;
  for (;;) {
    if (!parse_tuple() || !expect_block_end()) return false;
    const int32_t skip = emit(Op::kJumpIfFalse);
    if (!parse_body("elif else endif")) return false;
    if (!peek().is_name("endif")) ends = emit(Op::kJump, ends);
    patch_jump(skip);
    if (accept_name("elif")) continue;
    if (accept_name("else") && (!expect_block_end() || !parse_body("endif"))) return false;
    patch_linked_jumps(ends);
    return end_statement("endif");
  }
}

// A name, or names separated by commas or in parentheses; left as the last of targets_.
bool Compiler::parse_target(bool with_tuple) {
  if (!enter()) return false;
  const size_t first = targets_.size();
  if (!parse_target_part()) return false;
  bool comma = false;
  while (with_tuple && accept_operator(",")) {
    comma = true;
    if (peek().is_name("in") || peek().is_operator("=") || peek().is_operator(")")) break;
    if (!parse_target_part()) return false;
  }
  if (comma) join_targets(first);
  leave();
  return true;
}

bool Compiler::parse_target_part() {
  if (accept_operator("(")) return parse_target(true) && expect_operator(")");
  if (peek().kind != TokenKind::kName) return syntax_error("a name");
  targets_.emplace_back().name = name_id(next().text);
  return true;
}

// Those from `first` on become one.
void Compiler::join_targets(size_t first) {
  Target tuple;
  const auto begin = targets_.begin() + static_cast<ptrdiff_t>(first);
  tuple.parts.assign(std::make_move_iterator(begin), std::make_move_iterator(targets_.end()));
  targets_.erase(begin, targets_.end());
  targets_.push_back(std::move(tuple));
}

void Compiler::emit_store(const Target& target) {
  if (target.name >= 0) {
    emit(Op::kStore, target.name);
    return;
  }
  emit(Op::kUnpack, static_cast<int32_t>(target.parts.size()));
  for (const Target& part : target.parts) emit_store(part);
}

bool Compiler::parse_for() {
  if (!parse_target(true)) return false;
  if (!accept_name("in")) return syntax_error("'in'");
  if (!parse_tuple(false)) return false;
  const int32_t entry = here();
  if (peek().is_name("if") && !parse_loop_filter(entry)) return false;
  const uint8_t flags = accept_name("recursive") ? kRecursive : 0;
  if (!expect_block_end()) return false;
  emit(Op::kLoopBegin, 0, entry, flags);
  begin_loop_body();
  if (!parse_body("else endfor")) return false;
  end_loop_body();
  if (accept_name("else") && !parse_loop_else()) return false;
  emit(Op::kLoopEnd, 0, 0, flags);
  return end_statement("endfor");
}

void Compiler::begin_loop_body() {
  loops_.push_back({here(), -1});
  emit(Op::kLoopNext);
  emit_store(targets_.back());
  targets_.pop_back();
}

void Compiler::end_loop_body() {
  emit_jump_to(Op::kJump, loops_.back().next);
  patch_jump(loops_.back().next);
  patch_linked_jumps(loops_.back().breaks);
  loops_.pop_back();
}

bool Compiler::parse_loop_else() {
  const int32_t ran = emit(Op::kLoopElse);
  emit(Op::kPushScope);
  if (!expect_block_end() || !parse_body("endfor")) return false;
  emit(Op::kPopScope);
  patch_jump(ran);
  return true;
}

// for x in items if condition: a loop that only selects runs first, so that loop.length and loop.last know.
bool Compiler::parse_loop_filter(int32_t entry) {
  next();
  emit(Op::kLoopBegin, 0, entry, kSelecting);
  const int32_t exhausted = emit(Op::kLoopNext);
  emit_store(targets_.back());
  if (!parse_expression()) return false;
  emit(Op::kSelect);
  emit_jump_to(Op::kJump, exhausted);
  patch_jump(exhausted);
  emit(Op::kLoopEnd, 0, 0, kSelecting);
  return true;
}

bool Compiler::parse_break() {
  if (loops_.size() == outer_loops_) return error(Code::kMalformed, "'break' outside a loop");
  loops_.back().breaks = emit(Op::kBreak, loops_.back().breaks);
  return expect_block_end();
}

bool Compiler::parse_continue() {
  if (loops_.size() == outer_loops_) return error(Code::kMalformed, "'continue' outside a loop");
  emit_jump_to(Op::kContinue, loops_.back().next);
  return expect_block_end();
}

bool Compiler::parse_set() {
  const bool is_attribute = peek().kind == TokenKind::kName && peek(1).is_operator(".");
  const size_t variable = at_;
  if (is_attribute) {
    at_ += 2;
    if (peek().kind != TokenKind::kName) return syntax_error("a name");
    next();
  } else if (!parse_target(true)) {
    return false;
  }
  if (accept_operator("=") ? !parse_tuple() : !parse_set_block()) return false;
  if (is_attribute) {
    emit(Op::kStoreAttribute, text_constant(tokens_[variable + 2].text), name_id(tokens_[variable].text));
  } else {
    emit_store(targets_.back());
    targets_.pop_back();
  }
  return expect_block_end();
}

// {% set name | filters %}body{% endset %}: pushes the filtered text; the end tag's '%}' is left.
bool Compiler::parse_set_block() {
  const size_t filters = at_;
  while (peek().kind != TokenKind::kBlockEnd && peek().kind != TokenKind::kEnd) next();
  if (!expect_block_end()) return false;
  emit(Op::kPushScope);
  emit(Op::kCaptureBegin);
  if (!parse_body("endset")) return false;
  emit(Op::kCaptureEnd);
  emit(Op::kPopScope);
  const size_t end = at_ + 1;
  at_ = filters;
  if (accept_operator("|") && !parse_filter_chain()) return false;
  if (peek().kind != TokenKind::kBlockEnd) return syntax_error("'=', '|' or '%}'");
  at_ = end;
  return true;
}

bool Compiler::parse_macro() {
  if (peek().kind != TokenKind::kName) return syntax_error("a name");
  const int32_t variable = name_id(next().text);
  if (!parse_macro_body(program_.names[static_cast<size_t>(variable)], "endmacro", 0)) return false;
  emit(Op::kStore, variable);
  return true;
}

// The rest of a macro or call block: parameters, body, end tag. Pushes the macro.
// Parameters are read at the current token, the body behind the '%}' at token `body` (0: behind the parameters).
bool Compiler::parse_macro_body(const Value& name, std::string_view end, size_t body) {
  const auto index = static_cast<int32_t>(program_.macros.size());
  const int32_t over = emit(Op::kJump);
  const size_t outer_loops = outer_loops_;
  MacroShape& shape = begin_macro(name);
  if (peek().is_operator("(") && !parse_macro_parameters(shape)) return false;
  if (body != 0) at_ = body;
  if (!expect_block_end() || !parse_body(end)) return false;
  emit(Op::kMacroReturn);
  outer_loops_ = outer_loops;
  end_macro(shape);
  patch_jump(over);
  emit(Op::kMacro, index);
  return end_statement(end);
}

MacroShape& Compiler::begin_macro(const Value& name) {
  MacroShape& shape = program_.macros.emplace_back();
  shape.name = name;
  shape.entry = here();
  outer_loops_ = loops_.size();
  macro_uses_.push_back({});
  return shape;
}

void Compiler::end_macro(MacroShape& shape) {
  const MacroUse use = macro_uses_.back();
  shape.takes_varargs = use.varargs;
  shape.takes_kwargs = use.kwargs;
  shape.takes_caller = use.caller;
  macro_uses_.pop_back();
  if (macro_uses_.empty()) return;
  macro_uses_.back().varargs |= use.varargs;  // what an inner macro mentions counts for the outer one too
  macro_uses_.back().kwargs |= use.kwargs;
  macro_uses_.back().caller |= use.caller;
}

bool Compiler::parse_macro_parameters(MacroShape& shape) {
  next();
  while (!accept_operator(")")) {
    if (!shape.parameters.empty() && !expect_operator(",")) return false;
    if (!shape.parameters.empty() && accept_operator(")")) break;
    if (peek().kind != TokenKind::kName) return syntax_error("a name");
    const int32_t id = name_id(next().text);
    shape.parameters.push_back(id);
    const bool has_default = accept_operator("=");
    if (has_default) {
      const int32_t given = emit(Op::kJumpIfGiven, 0, id);
      if (!parse_expression()) return false;
      emit(Op::kStore, id);
      patch_jump(given);
    } else if (!shape.has_default.empty() && shape.has_default.back()) {
      return syntax_error("a default, as the parameter before has one");
    }
    shape.has_default.push_back(has_default);
  }
  return true;
}

// {% call(parameters) name(arguments) %}body{% endcall %}: the body becomes the argument `caller`.
bool Compiler::parse_call_block() {
  size_t parameters = at_;
  skip_parameters();
  const bool has_parameters = at_ > parameters;
  if (!parse_expression(false)) return false;
  if (!add_caller_argument()) return false;
  const Instruction call = program_.code.back();
  program_.code.pop_back();
  const size_t body = at_;
  at_ = has_parameters ? parameters : body;
  if (!parse_macro_body(program_.names[static_cast<size_t>(program_.caller_name)], "endcall", body)) return false;
  program_.code.push_back(call);
  emit(Op::kEmit);
  return true;
}

void Compiler::skip_parameters() {
  if (!accept_operator("(")) return;
  for (int open = 1; open > 0 && peek().kind != TokenKind::kBlockEnd && peek().kind != TokenKind::kEnd; next())
    open += peek().is_operator("(") ? 1 : peek().is_operator(")") ? -1 : 0;
}

// To the call that the last instruction makes.
bool Compiler::add_caller_argument() {
  const Instruction& call = program_.code.back();
  if ((call.op != Op::kCall && call.op != Op::kCallMethod) || peek().kind != TokenKind::kBlockEnd)
    return syntax_error("a call and '%}'");
  CallShape& shape = program_.shapes[static_cast<size_t>(call.arg)];
  if (shape.list_unpack || shape.dict_unpack) return error(Code::kUnsupported, "* and ** in a call block");
  shape.names.push_back(program_.names[static_cast<size_t>(program_.caller_name)]);
  return true;
}

bool Compiler::parse_filter_block() {
  const size_t filters = at_;
  while (peek().kind != TokenKind::kBlockEnd && peek().kind != TokenKind::kEnd) next();
  if (!expect_block_end()) return false;
  emit(Op::kPushScope);
  emit(Op::kCaptureBegin);
  if (!parse_body("endfilter")) return false;
  emit(Op::kCaptureEnd);
  emit(Op::kPopScope);
  const size_t end = at_;
  at_ = filters;
  if (!parse_filter_chain()) return false;
  if (peek().kind != TokenKind::kBlockEnd) return syntax_error("'|' or '%}'");
  emit(Op::kEmit);
  at_ = end;
  return end_statement("endfilter");
}

bool Compiler::parse_with() {
  const size_t first = targets_.size();
  while (peek().kind != TokenKind::kBlockEnd) {
    if (targets_.size() > first && !expect_operator(",")) return false;
    if (!parse_target(false) || !expect_operator("=") || !parse_expression()) return false;
  }
  if (!expect_block_end()) return false;
  emit(Op::kPushScope);
  for (; targets_.size() > first; targets_.pop_back()) emit_store(targets_.back());
  if (!parse_body("endwith")) return false;
  emit(Op::kPopScope);
  return end_statement("endwith");
}

// Marks what the assistant says, for training; here only a scope.
bool Compiler::parse_generation() {
  if (!expect_block_end()) return false;
  emit(Op::kPushScope);
  if (!parse_body("endgeneration")) return false;
  emit(Op::kPopScope);
  return end_statement("endgeneration");
}

}  // namespace hearth::jinja
