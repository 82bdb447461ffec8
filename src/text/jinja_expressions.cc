#include <algorithm>
#include <array>
#include <charconv>

#include "base/limits.h"
#include "text/jinja_compiler.h"

namespace hearth::jinja {
namespace {
struct BinaryRow {
  std::string_view op;
  int precedence;
  BinaryOp binary;
};
constexpr int kOr = 1, kAnd = 2, kNot = 3, kComparison = 4, kSum = 5, kConcatenation = 6, kProduct = 7, kPower = 8;
constexpr std::array kBinaryRows{BinaryRow{"+", kSum, BinaryOp::kAdd},
                                 BinaryRow{"-", kSum, BinaryOp::kSubtract},
                                 BinaryRow{"*", kProduct, BinaryOp::kMultiply},
                                 BinaryRow{"/", kProduct, BinaryOp::kDivide},
                                 BinaryRow{"//", kProduct, BinaryOp::kFloorDivide},
                                 BinaryRow{"%", kProduct, BinaryOp::kModulo},
                                 BinaryRow{"**", kPower, BinaryOp::kPower}};

const BinaryRow* binary_row(const Token& token) {
  if (token.kind != TokenKind::kOperator) return nullptr;
  for (const BinaryRow& row : kBinaryRows)
    if (row.op == token.text) return &row;
  return nullptr;
}

int compare_op(const Token& token, const Token& after) {
  static constexpr std::array<std::pair<std::string_view, CompareOp>, 6> kOps{{{"==", CompareOp::kEqual},
                                                                               {"!=", CompareOp::kNotEqual},
                                                                               {"<", CompareOp::kLess},
                                                                               {"<=", CompareOp::kLessEqual},
                                                                               {">", CompareOp::kGreater},
                                                                               {">=", CompareOp::kGreaterEqual}}};
  for (const auto& [text, op] : kOps)
    if (token.is_operator(text)) return static_cast<int>(op);
  if (token.is_name("in")) return static_cast<int>(CompareOp::kIn);
  if (token.is_name("not") && after.is_name("in")) return static_cast<int>(CompareOp::kNotIn);
  return -1;
}
}  // namespace

// value ['if' condition ['else' expression]]
bool Compiler::parse_expression(bool with_condition) {
  if (!enter()) return false;
  int32_t begin = here();
  int32_t ends = -1;
  if (!parse_operators()) return false;
  while (with_condition && begin >= 0 && accept_name("if"))
    if (!parse_condition(begin, ends)) return false;
  patch_linked_jumps(ends);
  leave();
  return true;
}

// Behind 'if'. `begin` is where the value's code starts, then that of the next value; -1 if there is no 'else'. `ends` links the
// jumps to the end of all.
bool Compiler::parse_condition(int32_t& begin, int32_t& ends) {
  const int32_t condition = here();
  if (!parse_operators()) return false;
  emit(Op::kJumpIfFalse);
  move_behind_condition(begin, condition);
  const int32_t skip = here() - (condition - begin) - 1;
  ends = emit(Op::kJump, ends);
  patch_jump(skip);
  begin = -1;
  if (!accept_name("else")) {
    emit(Op::kAbsentElse);
    return true;
  }
  begin = here();
  return parse_operators();
}

void Compiler::move_behind_condition(int32_t begin, int32_t condition) {
  std::rotate(program_.code.begin() + begin, program_.code.begin() + condition, program_.code.end());
}

// Jumps whose `arg` is the jump before, or -1: all go here.
void Compiler::patch_linked_jumps(int32_t last) {
  while (last >= 0) {
    const int32_t before = program_.code[static_cast<size_t>(last)].arg;
    patch_jump(last);
    last = before;
  }
}

// Expressions separated by commas make a tuple.
bool Compiler::parse_tuple(bool with_condition) {
  if (!parse_expression(with_condition)) return false;
  int32_t count = 1;
  bool comma = false;
  while (accept_operator(",")) {
    comma = true;
    if (peek().kind == TokenKind::kVariableEnd || peek().kind == TokenKind::kBlockEnd || peek().is_operator(")")) break;
    if (!parse_expression(with_condition)) return false;
    ++count;
  }
  if (comma) emit(Op::kTuple, count);
  return true;
}

// Operands and the operators between them. An operator waits in operators_ until one that binds less tightly, or as tightly,
// comes after it (E. W. Dijkstra's shunting yard).
bool Compiler::parse_operators() {
  const size_t base = operators_.size();
  for (;;) {
    if (!accept_negations(base) || !parse_unary(true)) return false;
    const int precedence = next_precedence();
    reduce(base, precedence);
    if (precedence == 0) return true;
    push_operator(base, precedence);
  }
}

// Any number of 'not' in front of an operand.
bool Compiler::accept_negations(size_t base) {
  while (peek().is_name("not")) {
    if (operators_.size() > base && operators_.back().precedence > kNot) return syntax_error("a value");
    operators_.push_back({.precedence = kNot});
    next();
  }
  return true;
}

// Of the operator at the current token; 0 if there is none.
int Compiler::next_precedence() {
  const Token& token = peek();
  if (const BinaryRow* row = binary_row(token)) {
    next_operation_ = static_cast<uint8_t>(row->binary);
    return row->precedence;
  }
  if (token.is_operator("~")) return kConcatenation;
  if (token.is_name("and")) return kAnd;
  if (token.is_name("or")) return kOr;
  const int compare = compare_op(token, peek(1));
  next_operation_ = static_cast<uint8_t>(compare);
  return compare < 0 ? 0 : kComparison;
}

// Completes the waiting operators that bind at least as tightly as the next one. Neighbours '~' join into one instruction, and
// comparisons into a chain in which each but the last keeps its right operand for the next.
void Compiler::reduce(size_t base, int precedence) {
  while (operators_.size() > base && operators_.back().precedence >= precedence) {
    const Pending pending = operators_.back();
    if (precedence == pending.precedence && (precedence == kConcatenation || precedence == kComparison)) return;
    operators_.pop_back();
    switch (pending.precedence) {
      case kOr:
      case kAnd:
        patch_jump(pending.link);
        break;
      case kNot:
        emit(Op::kUnary, 0, 0, '!');
        break;
      case kComparison:
        emit(Op::kCompare, 0, 0, pending.operation);
        patch_linked_jumps(pending.link);
        break;
      case kConcatenation:
        emit(Op::kConcat, pending.count);
        break;
      default:
        emit(Op::kBinary, 0, 0, pending.operation);
    }
  }
}

void Compiler::push_operator(size_t base, int precedence) {
  const bool continues = operators_.size() > base && operators_.back().precedence == precedence;
  if (next().is_name("not")) next();  // of 'not in'
  if (precedence == kConcatenation && continues) {
    ++operators_.back().count;
  } else if (precedence == kComparison && continues) {
    Pending& chain = operators_.back();
    chain.link = emit(Op::kCompareChain, chain.link, 0, chain.operation);
    chain.operation = next_operation_;
  } else {
    Pending& pending = operators_.emplace_back();
    pending.precedence = precedence;
    pending.operation = next_operation_;
    pending.count = 2;
    if (precedence == kOr || precedence == kAnd)
      pending.link = emit(precedence == kAnd ? Op::kJumpIfFalseKeep : Op::kJumpIfTrueKeep);
  }
}

bool Compiler::parse_unary(bool with_filters) {
  const size_t signs = at_;
  while (peek().is_operator("-") || peek().is_operator("+")) next();
  const size_t operand = at_;
  if (!parse_primary() || !parse_postfix()) return false;
  for (size_t i = operand; i > signs; --i) emit(Op::kUnary, 0, 0, static_cast<uint8_t>(tokens_[i - 1].text[0]));
  return !with_filters || parse_filters_and_tests();
}

bool Compiler::parse_primary() {
  const Token& token = peek();
  switch (token.kind) {
    case TokenKind::kName:
      return parse_name();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return parse_number();
    case TokenKind::kString:
      return parse_string();
    default:
      break;
  }
  if (token.is_operator("(")) return parse_parenthesis();
  if (token.is_operator("[")) return parse_list();
  if (token.is_operator("{")) return parse_dict();
  return syntax_error("a value");
}

// Neighbouring literals are one.
bool Compiler::parse_string() {
  std::string text = next().text;
  while (peek().kind == TokenKind::kString) text += next().text;
  emit(Op::kConst, text_constant(text));
  return true;
}

bool Compiler::parse_name() {
  const std::string& name = next().text;
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    emit(Op::kConst, constant(Value(name == "true" || name == "True")));
  } else if (name == "none" || name == "None") {
    emit(Op::kConst, constant(Value::none()));
  } else {
    if (!macro_uses_.empty()) {
      macro_uses_.back().varargs |= name == "varargs";
      macro_uses_.back().kwargs |= name == "kwargs";
      macro_uses_.back().caller |= name == "caller";
    }
    emit(Op::kLoad, name_id(name));
  }
  return true;
}

bool Compiler::parse_number() {
  const Token& token = next();
  const char* begin = token.text.data();
  const char* end = begin + token.text.size();
  if (token.kind == TokenKind::kFloat) {
    double value = 0;
    std::from_chars(begin, end, value);
    emit(Op::kConst, constant(Value(value)));
    return true;
  }
  int base = 10;
  if (token.text.size() > 2 && token.text[0] == '0') {
    const char letter = token.text[1];
    base = letter == 'x' || letter == 'X'   ? 16
           : letter == 'b' || letter == 'B' ? 2
           : letter == 'o' || letter == 'O' ? 8
                                            : 10;
    if (base != 10) begin += 2;
  }
  int64_t value = 0;
  const auto [stop, status] = std::from_chars(begin, end, value, base);
  if (status == std::errc::result_out_of_range)
    return error(Code::kLimit, fmt::format("the integer {} does not fit 64 bits", token.text));
  if (status != std::errc() || stop != end) return error(Code::kMalformed, fmt::format("bad integer {}", token.text));
  emit(Op::kConst, constant(Value(value)));
  return true;
}

bool Compiler::parse_parenthesis() {
  next();
  if (accept_operator(")")) {
    emit(Op::kTuple, 0);
    return true;
  }
  return parse_tuple() && expect_operator(")");
}

bool Compiler::parse_list() {
  next();
  int32_t count = 0;
  while (!accept_operator("]")) {
    if (count > 0 && !expect_operator(",")) return false;
    if (count > 0 && accept_operator("]")) break;
    if (!parse_expression()) return false;
    ++count;
  }
  emit(Op::kList, count);
  return true;
}

bool Compiler::parse_dict() {
  next();
  int32_t count = 0;
  while (!accept_operator("}")) {
    if (count > 0 && !expect_operator(",")) return false;
    if (count > 0 && accept_operator("}")) break;
    if (!parse_expression() || !expect_operator(":") || !parse_expression()) return false;
    ++count;
  }
  emit(Op::kDict, count);
  return true;
}

bool Compiler::parse_postfix() {
  for (;;) {
    if (accept_operator(".")) {
      if (!parse_attribute()) return false;
    } else if (accept_operator("[")) {
      if (!parse_subscript()) return false;
    } else if (peek().is_operator("(")) {
      if (!parse_call(-1)) return false;
    } else {
      return true;
    }
  }
}

bool Compiler::parse_attribute() {
  const Token& token = next();
  if (token.kind == TokenKind::kInteger) {
    --at_;
    if (!parse_number()) return false;
    emit(Op::kItem);
    return true;
  }
  if (token.kind != TokenKind::kName) {
    --at_;
    return syntax_error("a name or number behind '.'");
  }
  const int32_t name = text_constant(token.text);
  if (peek().is_operator("(")) return parse_call(name);
  emit(Op::kAttribute, name);
  return true;
}

bool Compiler::parse_slice_part() {
  if (!peek().is_operator(":") && !peek().is_operator("]")) return parse_expression();
  emit(Op::kConst, constant(Value::none()));
  return true;
}

bool Compiler::parse_subscript() {
  if (!peek().is_operator(":")) {
    if (!parse_expression()) return false;
    if (peek().is_operator(",")) {
      int32_t count = 1;
      for (; accept_operator(","); ++count)
        if (!parse_expression()) return false;
      emit(Op::kTuple, count);
    }
    if (accept_operator("]")) {
      emit(Op::kItem);
      return true;
    }
  } else {
    emit(Op::kConst, constant(Value::none()));
  }
  if (!expect_operator(":") || !parse_slice_part()) return false;
  if (accept_operator(":")) {
    if (!parse_slice_part()) return false;
  } else {
    emit(Op::kConst, constant(Value::none()));
  }
  if (!expect_operator("]")) return false;
  emit(Op::kSlice);
  return true;
}

bool Compiler::parse_filters_and_tests() {
  for (;;) {
    if (accept_operator("|")) {
      if (!parse_filter()) return false;
    } else if (accept_name("is")) {
      if (!parse_test()) return false;
    } else if (peek().is_operator("(")) {  // a call of what a filter returned
      if (!parse_call(-1)) return false;
    } else {
      return true;
    }
  }
}

bool Compiler::parse_filter_chain() {
  do {
    if (!parse_filter()) return false;
  } while (accept_operator("|"));
  return true;
}

bool Compiler::parse_filter() {
  if (peek().kind != TokenKind::kName) return syntax_error("a name");
  const int32_t id = text_constant(next().text);
  const size_t shape = add_shape();
  if (accept_operator("(") && !parse_call_arguments(shape)) return false;
  emit(Op::kFilter, static_cast<int32_t>(shape), id);
  return true;
}

// Whether what follows a test's name is its operand.
bool Compiler::begins_test_operand() const {
  const Token& token = peek();
  switch (token.kind) {
    case TokenKind::kString:
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return true;
    case TokenKind::kOperator:
      return token.is_operator("[") || token.is_operator("{");
    case TokenKind::kName:
      break;
    default:
      return false;
  }
  static constexpr std::array<std::string_view, 8> kNoOperands = {"else", "or", "and", "is",
                                                                  "if",   "in", "not", "recursive"};
  return std::find(kNoOperands.begin(), kNoOperands.end(), token.text) == kNoOperands.end();
}

// After 'is': a name, then arguments in parentheses or one operand without them.
bool Compiler::parse_test() {
  if (!enter()) return false;
  const bool negated = accept_name("not");
  if (peek().kind != TokenKind::kName) return syntax_error("a name");
  const int32_t id = text_constant(next().text);
  const size_t shape = add_shape();
  if (accept_operator("(")) {
    if (!parse_call_arguments(shape)) return false;
  } else if (begins_test_operand()) {
    if (!parse_primary() || !parse_postfix()) return false;
    program_.shapes[shape].positional = 1;
  }
  emit(Op::kTest, static_cast<int32_t>(shape), id);
  if (negated) emit(Op::kUnary, 0, 0, '!');
  leave();
  return true;
}

size_t Compiler::add_shape() {
  program_.shapes.emplace_back();
  return program_.shapes.size() - 1;
}

// Behind '(': positional, named, *list and **dict arguments up to ')'.
bool Compiler::parse_call_arguments(size_t shape) {
  bool first = true;
  while (!accept_operator(")")) {
    if (!first && !expect_operator(",")) return false;
    if (!first && accept_operator(")")) break;
    first = false;
    if (!parse_argument_kind(shape) || !parse_expression()) return false;
  }
  return true;
}

// What comes in front of an argument's value.
bool Compiler::parse_argument_kind(size_t index) {
  CallShape& shape = program_.shapes[index];
  if (accept_operator("**")) {
    if (shape.dict_unpack) return syntax_error("one ** argument");
    shape.dict_unpack = true;
  } else if (accept_operator("*")) {
    if (shape.list_unpack || shape.dict_unpack || !shape.names.empty())
      return syntax_error("one * argument in front of named ones");
    shape.list_unpack = true;
  } else if (peek().kind == TokenKind::kName && peek(1).is_operator("=")) {
    if (shape.list_unpack || shape.dict_unpack) return syntax_error("named arguments in front of * and **");
    shape.names.push_back(string_constant(next().text));
    next();
  } else {
    if (shape.list_unpack || shape.dict_unpack || !shape.names.empty())
      return syntax_error("positional arguments in front of all others");
    ++shape.positional;
  }
  return true;
}

bool Compiler::parse_call(int32_t method_name) {
  next();
  const size_t shape = add_shape();
  if (!parse_call_arguments(shape)) return false;
  emit(method_name < 0 ? Op::kCall : Op::kCallMethod, static_cast<int32_t>(shape), method_name);
  return true;
}

}  // namespace hearth::jinja
