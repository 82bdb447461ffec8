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

std::optional<CompareOp> compare_op(const Token& token, const Token& after) {
  static constexpr std::array<std::pair<std::string_view, CompareOp>, 6> kOps{{{"==", CompareOp::kEqual},
                                                                               {"!=", CompareOp::kNotEqual},
                                                                               {"<", CompareOp::kLess},
                                                                               {"<=", CompareOp::kLessEqual},
                                                                               {">", CompareOp::kGreater},
                                                                               {">=", CompareOp::kGreaterEqual}}};
  for (const auto& [text, op] : kOps)
    if (token.is_operator(text)) return op;
  if (token.is_name("in")) return CompareOp::kIn;
  if (token.is_name("not") && after.is_name("in")) return CompareOp::kNotIn;
  return std::nullopt;
}
}  // namespace

bool Compiler::Nesting::fits() {
  if (compiler_.depth_ <= limits::kTemplateDepth) return true;
  return compiler_.error(Code::kLimit, fmt::format("nests deeper than {} levels", limits::kTemplateDepth));
}

// or_expression ['if' condition ['else' expression]]; the value's code is moved behind the condition's.
bool Compiler::parse_expression(bool with_condition) {
  Nesting nesting(*this);
  if (!nesting.fits()) return false;
  int32_t begin = here();
  if (!parse_binary(kOr)) return false;
  std::vector<int32_t> ends;
  bool open = false;  // after an 'if' without 'else' nothing may follow
  while (with_condition && !open && accept_name("if")) {
    const int32_t condition = here();
    if (!parse_binary(kOr)) return false;
    emit(Op::kJumpIfFalse);
    const int32_t value_size = condition - begin;
    std::rotate(program_.code.begin() + begin, program_.code.begin() + condition, program_.code.end());
    const int32_t skip = here() - value_size - 1;
    ends.push_back(emit(Op::kJump));
    patch_jump(skip);
    open = !accept_name("else");
    begin = here();
    if (open) {
      emit(Op::kAbsentElse);
    } else if (!parse_binary(kOr)) {
      return false;
    }
  }
  for (const int32_t end : ends) patch_jump(end);
  return true;
}

// Expressions separated by commas make a tuple.
bool Compiler::parse_tuple(bool with_condition) {
  if (!parse_expression(with_condition)) return false;
  int32_t count = 1;
  bool comma = false;
  while (accept_operator(",")) {
    comma = true;
    const Token& token = peek();
    if (token.kind == TokenKind::kVariableEnd || token.kind == TokenKind::kBlockEnd || token.is_operator(")")) break;
    if (!parse_expression(with_condition)) return false;
    ++count;
  }
  if (comma) emit(Op::kTuple, count);
  return true;
}

bool Compiler::parse_binary(int lowest) {
  if (lowest <= kNot && peek().is_name("not")) {
    size_t negations = 0;
    while (accept_name("not")) ++negations;
    if (!parse_binary(kComparison)) return false;
    for (; negations > 0; --negations) emit(Op::kUnary, 0, 0, '!');
  } else if (!parse_unary(true)) {
    return false;
  }
  return parse_operation(lowest);
}

// The operators behind a first operand that bind at least as tightly as `lowest`.
bool Compiler::parse_operation(int lowest) {
  for (;;) {
    const Token& token = peek();
    if (const BinaryRow* row = binary_row(token); row != nullptr && row->precedence >= lowest) {
      next();
      if (!parse_binary(row->precedence + 1)) return false;
      emit(Op::kBinary, 0, 0, static_cast<uint8_t>(row->binary));
    } else if (token.is_operator("~") && kConcatenation >= lowest) {
      int32_t count = 1;
      for (; accept_operator("~"); ++count)
        if (!parse_binary(kConcatenation + 1)) return false;
      emit(Op::kConcat, count);
    } else if (kComparison >= lowest && compare_op(token, peek(1))) {
      if (!parse_comparison_rest()) return false;
    } else if ((token.is_name("and") && kAnd >= lowest) || (token.is_name("or") && kOr >= lowest)) {
      const bool is_and = next().text == "and";
      const int32_t jump = emit(is_and ? Op::kJumpIfFalseKeep : Op::kJumpIfTrueKeep);
      if (!parse_binary(is_and ? kNot : kAnd)) return false;
      patch_jump(jump);
    } else {
      return true;
    }
  }
}

// a < b < c: each comparison but the last keeps its right operand for the next.
bool Compiler::parse_comparison_rest() {
  std::vector<int32_t> chain;
  while (const auto op = compare_op(peek(), peek(1))) {
    next();
    if (op == CompareOp::kNotIn) next();
    if (!parse_binary(kComparison + 1)) return false;
    const bool more = compare_op(peek(), peek(1)).has_value();
    const int32_t at = emit(more ? Op::kCompareChain : Op::kCompare, 0, 0, static_cast<uint8_t>(*op));
    if (more) chain.push_back(at);
  }
  for (const int32_t at : chain) patch_jump(at);
  return true;
}

bool Compiler::parse_unary(bool with_filters) {
  std::string signs;
  while (peek().is_operator("-") || peek().is_operator("+")) signs += next().text;
  if (!parse_primary()) return false;
  if (!parse_postfix()) return false;
  for (; !signs.empty(); signs.pop_back()) emit(Op::kUnary, 0, 0, static_cast<uint8_t>(signs.back()));
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
    case TokenKind::kString: {
      std::string text = next().text;
      while (peek().kind == TokenKind::kString) text += next().text;
      emit(Op::kConst, text_constant(text));
      return true;
    }
    default:
      break;
  }
  if (token.is_operator("(")) return parse_parenthesis();
  if (token.is_operator("[")) return parse_list();
  if (token.is_operator("{")) return parse_dict();
  return syntax_error("a value");
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
  std::string_view name;
  if (!expect_identifier(name)) return false;
  const int32_t id = text_constant(name);
  CallShape shape;
  if (accept_operator("(") && !parse_call_arguments(shape)) return false;
  add_argument_instruction(Op::kFilter, std::move(shape), id);
  return true;
}

// After 'is': a name, then arguments in parentheses or one operand without them.
bool Compiler::parse_test() {
  Nesting nesting(*this);
  if (!nesting.fits()) return false;
  const bool negated = accept_name("not");
  std::string_view name;
  if (!expect_identifier(name)) return false;
  const int32_t id = text_constant(name);
  CallShape shape;
  const Token& token = peek();
  const bool names_operand = token.kind == TokenKind::kName && !token.is_name("else") && !token.is_name("or") &&
                             !token.is_name("and") && !token.is_name("is") && !token.is_name("if") &&
                             !token.is_name("in") && !token.is_name("not") && !token.is_name("recursive");
  if (accept_operator("(")) {
    if (!parse_call_arguments(shape)) return false;
  } else if (names_operand || token.kind == TokenKind::kString || token.kind == TokenKind::kInteger ||
             token.kind == TokenKind::kFloat || token.is_operator("[") || token.is_operator("{")) {
    if (!parse_primary() || !parse_postfix()) return false;
    shape.positional = 1;
  }
  add_argument_instruction(Op::kTest, std::move(shape), id);
  if (negated) emit(Op::kUnary, 0, 0, '!');
  return true;
}

// Behind '(': positional, named, *list and **dict arguments up to ')'.
bool Compiler::parse_call_arguments(CallShape& shape) {
  bool first = true;
  while (!accept_operator(")")) {
    if (!first && !expect_operator(",")) return false;
    if (!first && accept_operator(")")) break;
    first = false;
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
    if (!parse_expression()) return false;
  }
  return true;
}

bool Compiler::parse_call(int32_t method_name) {
  next();
  CallShape shape;
  if (!parse_call_arguments(shape)) return false;
  add_argument_instruction(method_name < 0 ? Op::kCall : Op::kCallMethod, std::move(shape), method_name);
  return true;
}

void Compiler::add_argument_instruction(Op op, CallShape shape, int32_t extra) {
  program_.shapes.push_back(std::move(shape));
  emit(op, static_cast<int32_t>(program_.shapes.size() - 1), extra);
}

}  // namespace hearth::jinja
