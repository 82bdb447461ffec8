#include <algorithm>

#include "text/jinja_compiler.h"

namespace hearth::jinja {

Result<Program> compile(std::string_view source) { return Compiler(TRY(tokenize(source))).run(); }

Result<Program> Compiler::run() {
  program_.varargs_name = name_id("varargs");
  program_.kwargs_name = name_id("kwargs");
  program_.caller_name = name_id("caller");
  program_.loop_name = name_id("loop");
  if (!parse_body({}) || error_) return std::unexpected(*std::move(error_));
  emit(Op::kHalt);
  return std::move(program_);
}

bool Compiler::error(Code code, std::string message) {
  if (!error_) error_ = Error{code, fmt::format("chat template line {}: {}", peek().line, message)};
  return false;
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

bool Compiler::expect_identifier(std::string_view& name) {
  if (peek().kind != TokenKind::kName) return syntax_error("a name");
  name = next().text;
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
bool Compiler::parse_body(std::initializer_list<std::string_view> ends) {
  Nesting nesting(*this);
  if (!nesting.fits()) return false;
  for (;;) {
    switch (peek().kind) {
      case TokenKind::kData:
        emit(Op::kText, text_constant(next().text));
        break;
      case TokenKind::kVariableBegin:
        next();
        if (!parse_tuple()) return false;
        emit(Op::kEmit);
        if (peek().kind != TokenKind::kVariableEnd) return syntax_error("'}}'");
        next();
        break;
      case TokenKind::kBlockBegin:
        next();
        if (std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return peek().is_name(end); }))
          return true;
        if (!parse_statement()) return false;
        break;
      case TokenKind::kEnd:
        return ends.size() == 0 || syntax_error(fmt::format("'{{% {} %}}'", *(ends.end() - 1)));
      default:
        return syntax_error("text or a tag");
    }
  }
}

bool Compiler::parse_statement() {
  std::string_view name;
  if (!expect_identifier(name)) return false;
  if (name == "if") return parse_if();
  if (name == "for") return parse_for();
  if (name == "set") return parse_set();
  if (name == "macro") return parse_macro();
  if (name == "call") return parse_call_block();
  if (name == "filter") return parse_filter_block();
  if (name == "with") return parse_with();
  if (name == "generation") return parse_generation();
  if (name == "break" || name == "continue") return parse_loop_control(name == "break");
  --at_;
  if (name == "extends" || name == "include" || name == "import" || name == "from" || name == "block" || name == "do" ||
      name == "autoescape" || name == "trans")
    return error(Code::kUnsupported, fmt::format("'{{% {} %}}' is not part of chat templates", name));
  return syntax_error("a statement");
}

// The end tag named `name`, whose block start and name parse_body left current.
bool Compiler::end_statement(std::string_view name) {
  if (!accept_name(name)) return syntax_error(fmt::format("'{{% {} %}}'", name));
  return expect_block_end();
}

bool Compiler::parse_if() {
  std::vector<int32_t> ends;
  for (;;) {
    if (!parse_tuple() || !expect_block_end()) return false;
    const int32_t skip = emit(Op::kJumpIfFalse);
    if (!parse_body({"elif", "else", "endif"})) return false;
    const bool more = !peek().is_name("endif");
    if (more) ends.push_back(emit(Op::kJump));
    patch_jump(skip);
    if (accept_name("elif")) continue;
    if (accept_name("else") && (!expect_block_end() || !parse_body({"endif"}))) return false;
    for (const int32_t end : ends) patch_jump(end);
    return end_statement("endif");
  }
}

// A name, or names separated by commas or in parentheses.
bool Compiler::parse_target(Target& target, bool with_tuple) {
  Nesting nesting(*this);
  if (!nesting.fits()) return false;
  std::vector<Target> parts;
  bool comma = false;
  do {
    if (comma && (peek().is_name("in") || peek().is_operator("=") || peek().is_operator(")"))) break;
    Target part;
    if (accept_operator("(")) {
      if (!parse_target(part, true) || !expect_operator(")")) return false;
    } else {
      std::string_view name;
      if (!expect_identifier(name)) return false;
      part.name = name_id(name);
    }
    parts.push_back(std::move(part));
  } while (with_tuple && (comma |= peek().is_operator(",")) && accept_operator(","));
  if (comma) {
    target.parts = std::move(parts);
  } else {
    target = std::move(parts.front());
  }
  return true;
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
  Target target;
  if (!parse_target(target, true)) return false;
  if (!accept_name("in")) return syntax_error("'in'");
  if (!parse_tuple(false)) return false;
  const int32_t entry = here();
  if (peek().is_name("if") && !parse_loop_filter(target, entry)) return false;
  const bool recursive = accept_name("recursive");
  if (!expect_block_end()) return false;
  const uint8_t flags = recursive ? kRecursive : 0;
  emit(Op::kLoopBegin, 0, entry, flags);
  loops_.push_back({here(), {}});
  const int32_t exhausted = emit(Op::kLoopNext);
  emit_store(target);
  if (!parse_body({"else", "endfor"})) return false;
  emit_jump_to(Op::kJump, loops_.back().next);
  patch_jump(exhausted);
  for (const int32_t jump : loops_.back().breaks) patch_jump(jump);
  loops_.pop_back();
  if (accept_name("else")) {
    const int32_t ran = emit(Op::kLoopElse);
    emit(Op::kPushScope);
    if (!expect_block_end() || !parse_body({"endfor"})) return false;
    emit(Op::kPopScope);
    patch_jump(ran);
  }
  emit(Op::kLoopEnd, 0, 0, flags);
  return end_statement("endfor");
}

// for x in items if condition: a loop that only selects runs first, so that loop.length and loop.last know.
bool Compiler::parse_loop_filter(const Target& target, int32_t entry) {
  next();
  emit(Op::kLoopBegin, 0, entry, kSelecting);
  const int32_t exhausted = emit(Op::kLoopNext);
  emit_store(target);
  if (!parse_expression()) return false;
  emit(Op::kSelect);
  emit_jump_to(Op::kJump, exhausted);
  patch_jump(exhausted);
  emit(Op::kLoopEnd, 0, 0, kSelecting);
  return true;
}

bool Compiler::parse_loop_control(bool is_break) {
  if (loops_.empty()) return error(Code::kMalformed, is_break ? "'break' outside a loop" : "'continue' outside a loop");
  if (is_break) {
    loops_.back().breaks.push_back(emit(Op::kBreak));
  } else {
    emit_jump_to(Op::kContinue, loops_.back().next);
  }
  return expect_block_end();
}

bool Compiler::parse_set() {
  if (peek().kind == TokenKind::kName && peek(1).is_operator(".")) {
    const int32_t variable = name_id(next().text);
    next();
    std::string_view attribute;
    if (!expect_identifier(attribute)) return false;
    const int32_t name = text_constant(attribute);
    if (peek().is_operator("=")) {
      next();
      if (!parse_tuple()) return false;
    } else if (!parse_set_block()) {
      return false;
    }
    emit(Op::kStoreAttribute, name, variable);
    return expect_block_end();
  }
  Target target;
  if (!parse_target(target, true)) return false;
  if (accept_operator("=")) {
    if (!parse_tuple()) return false;
  } else if (!parse_set_block()) {
    return false;
  }
  emit_store(target);
  return expect_block_end();
}

// {% set name | filters %}body{% endset %}: pushes the filtered text; the end tag's '%}' is left.
bool Compiler::parse_set_block() {
  const size_t filters = at_;
  while (peek().kind != TokenKind::kBlockEnd && peek().kind != TokenKind::kEnd) next();
  if (!expect_block_end()) return false;
  emit(Op::kPushScope);
  emit(Op::kCaptureBegin);
  if (!parse_body({"endset"})) return false;
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
  std::string_view name;
  if (!expect_identifier(name)) return false;
  const int32_t variable = name_id(name);
  MacroShape shape;
  shape.name = program_.names[static_cast<size_t>(variable)];
  if (!parse_macro_body(std::move(shape), "endmacro", 0)) return false;
  emit(Op::kStore, variable);
  return true;
}

// The rest of a macro or call block: parameters, body, end tag. Pushes the macro.
// Parameters are read at the current token, the body behind the '%}' at token `body` (0: behind the parameters).
bool Compiler::parse_macro_body(MacroShape shape, std::string_view end, size_t body) {
  const auto index = static_cast<int32_t>(program_.macros.size());
  program_.macros.push_back(std::move(shape));
  const int32_t over = emit(Op::kJump);
  MacroShape& made = program_.macros[static_cast<size_t>(index)];
  made.entry = here();
  std::vector<LoopFrame> outer_loops = std::exchange(loops_, {});
  macro_uses_.push_back({});
  if (peek().is_operator("(") && !parse_macro_parameters(made)) return false;
  if (body != 0) at_ = body;
  if (!expect_block_end() || !parse_body({end})) return false;
  emit(Op::kMacroReturn);
  loops_ = std::move(outer_loops);
  made.takes_varargs = macro_uses_.back().varargs;
  made.takes_kwargs = macro_uses_.back().kwargs;
  made.takes_caller = macro_uses_.back().caller;
  macro_uses_.pop_back();
  if (!macro_uses_.empty()) {  // what an inner macro mentions counts for the outer one too
    macro_uses_.back().varargs |= made.takes_varargs;
    macro_uses_.back().kwargs |= made.takes_kwargs;
    macro_uses_.back().caller |= made.takes_caller;
  }
  patch_jump(over);
  emit(Op::kMacro, index);
  return end_statement(end);
}

bool Compiler::parse_macro_parameters(MacroShape& shape) {
  next();
  while (!accept_operator(")")) {
    if (!shape.parameters.empty() && !expect_operator(",")) return false;
    if (!shape.parameters.empty() && accept_operator(")")) break;
    std::string_view name;
    if (!expect_identifier(name)) return false;
    const int32_t id = name_id(name);
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
  const size_t parameters = at_;
  if (accept_operator("("))
    for (int open = 1; open > 0 && peek().kind != TokenKind::kBlockEnd && peek().kind != TokenKind::kEnd; next())
      open += peek().is_operator("(") ? 1 : peek().is_operator(")") ? -1 : 0;
  if (!parse_expression(false)) return false;
  Instruction call = program_.code.back();
  if ((call.op != Op::kCall && call.op != Op::kCallMethod) || peek().kind != TokenKind::kBlockEnd)
    return syntax_error("a call and '%}'");
  program_.code.pop_back();
  CallShape& shape = program_.shapes[static_cast<size_t>(call.arg)];
  if (shape.list_unpack || shape.dict_unpack) return error(Code::kUnsupported, "* and ** in a call block");
  shape.names.push_back(string_constant("caller"));
  const size_t body = at_;
  MacroShape caller;
  caller.name = string_constant("caller");
  at_ = parameters;
  if (!peek().is_operator("(")) at_ = body;
  if (!parse_macro_body(std::move(caller), "endcall", body)) return false;
  program_.code.push_back(call);
  emit(Op::kEmit);
  return true;
}

bool Compiler::parse_filter_block() {
  const size_t filters = at_;
  while (peek().kind != TokenKind::kBlockEnd && peek().kind != TokenKind::kEnd) next();
  if (!expect_block_end()) return false;
  emit(Op::kPushScope);
  emit(Op::kCaptureBegin);
  if (!parse_body({"endfilter"})) return false;
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
  std::vector<Target> targets;
  while (peek().kind != TokenKind::kBlockEnd) {
    if (!targets.empty() && !expect_operator(",")) return false;
    targets.emplace_back();
    if (!parse_target(targets.back(), false) || !expect_operator("=") || !parse_expression()) return false;
  }
  if (!expect_block_end()) return false;
  emit(Op::kPushScope);
  for (auto target = targets.rbegin(); target != targets.rend(); ++target) emit_store(*target);
  if (!parse_body({"endwith"})) return false;
  emit(Op::kPopScope);
  return end_statement("endwith");
}

// Marks what the assistant says, for training; here only a scope.
bool Compiler::parse_generation() {
  if (!expect_block_end()) return false;
  emit(Op::kPushScope);
  if (!parse_body({"endgeneration"})) return false;
  emit(Op::kPopScope);
  return end_statement("endgeneration");
}

}  // namespace hearth::jinja
