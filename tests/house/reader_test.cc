// The reader of sources itself: what it takes for code, an include, a function.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "house/source_file.h"
#include "support/test_folder.h"

namespace hearth::house {
namespace {

SourceFile read(const std::string& text) {
  const TestFolder folder;
  folder.write("read.cc", text);
  return SourceFile::read(folder.path(), "read.cc");
}

TEST(Reader, BlanksCommentsAndLiterals) {
  const SourceFile file = read(
      "int a = 1'000;  // throw\nauto s = \"throw \\\" {\"; /* throw */ char c = '{';\nauto r = R\"x(throw)x\";\n");
  EXPECT_EQ(file.code.find("throw"), std::string::npos);
  EXPECT_EQ(file.code.find('{'), std::string::npos);
  EXPECT_EQ(file.code.size(), file.text.size());
  EXPECT_NE(file.code.find("1'000;"), std::string::npos);
}

TEST(Reader, FindsIncludesAndMacros) {
  const SourceFile file =
      read("#include <vector>\n#include \"base/result.h\"\n#define ONE(x) \\\n  {\n// #define TWO\n");
  ASSERT_EQ(file.includes().size(), 2u);
  EXPECT_FALSE(file.includes()[0].quoted);
  EXPECT_EQ(file.includes()[1].path, "base/result.h");
  EXPECT_EQ(file.includes()[1].line, 2);
  EXPECT_EQ(file.macros(), std::vector<std::string>{"ONE"});
}

TEST(Reader, MeasuresFunctionsAndNothingElse) {
  const SourceFile file = read(
      "namespace a {\n"
      "constexpr int kTable[] = {1,\n 2};\n"
      "struct S {\n"
      "  S() : a_{1}, b_(2) {\n    a_ = {3};\n  }\n"  // 3 lines
      "  int a_;\n"
      "};\n"
      "template <class T>\n"
      "int f(S s = {}) {\n  if (s.a_) {\n    return 1;\n  }\n  return 2;\n}\n"  // 6 lines
      "TEST(A, B) { f({}); }\n"
      "}  // namespace a\n");
  const auto functions = file.functions();
  ASSERT_EQ(functions.size(), 3u);
  EXPECT_EQ(functions[0].length_lines, 3);
  EXPECT_EQ(functions[0].line, 5);
  EXPECT_EQ(functions[1].length_lines, 6);
  EXPECT_EQ(functions[2].length_lines, 1);
}

TEST(Reader, RoomIsTheFirstFolderBelowSrc) {
  EXPECT_EQ(room_of("src/text/bpe.cc"), "text");
  EXPECT_EQ(room_of("src/tensor/quant/q8_0.cc"), "tensor");
  EXPECT_EQ(room_of("tests/house/house_test.cc"), "");
}

}  // namespace
}  // namespace hearth::house
