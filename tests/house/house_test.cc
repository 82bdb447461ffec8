// Holds the house rules that a reader relies on: the arrows between rooms, the doors of foreign libraries, sizes,
// names, forms.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "house/source_file.h"

namespace hearth::house {
namespace {

constexpr int kFileLinesMax = 800, kFileLinesUsual = 300;
constexpr int kFunctionLinesMax = 70, kFunctionLinesUsual = 40;

const std::filesystem::path kRepository = HEARTH_SOURCE_DIR;

// Everything of ours, read once.
const std::vector<SourceFile>& sources() {
  static const std::vector<SourceFile> files = read_sources(kRepository, {"src", "include", "tests", "bench"});
  return files;
}

bool is_product(const SourceFile& file) {
  return (file.path.starts_with("src/") || file.path.starts_with("include/")) && !file.is_test();
}

std::string at(const SourceFile& file, int line) { return file.path + ":" + std::to_string(line); }

// Room -> height of its line in layers.txt; the lowest line has height 0.
std::map<std::string, int> layers() {
  std::map<std::string, int> height;
  const auto rows = read_table(kRepository / "tests/house/layers.txt");
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const std::string& room : rows[i]) height[room] = static_cast<int>(rows.size() - 1 - i);
  }
  return height;
}

TEST(House, EveryFolderOfSrcIsARoomOfTheTable) {
  const auto height = layers();
  ASSERT_FALSE(height.empty());
  for (const auto& entry : std::filesystem::directory_iterator(kRepository / "src")) {
    if (!entry.is_directory()) continue;
    const std::string room = entry.path().filename().string();
    EXPECT_TRUE(height.contains(room)) << "src/" << room << " is not in tests/house/layers.txt";
  }
}

TEST(House, IncludesPointDownTheLayers) {
  const auto height = layers();
  for (const SourceFile& file : sources()) {
    const std::string room = room_of(file.path);
    if (room.empty() || !height.contains(room)) continue;
    for (const Include& include : file.includes()) {
      if (!include.quoted) continue;
      const std::string target = include.path.substr(0, include.path.find('/'));
      if (target == "hearth" || (target == "support" && file.is_test())) continue;
      ASSERT_TRUE(std::filesystem::exists(kRepository / "src" / include.path))
          << at(file, include.line) << " includes \"" << include.path
          << "\"; write the path from src, as in \"base/result.h\"";
      ASSERT_TRUE(height.contains(target)) << at(file, include.line) << ": no room " << target << " in layers.txt";
      EXPECT_TRUE(target == room || height.at(target) < height.at(room))
          << at(file, include.line) << ": " << room << " may not include " << include.path
          << " (tests/house/layers.txt)";
    }
  }
}

TEST(House, OnlyTestsIncludeTestHeaders) {
  for (const SourceFile& file : sources()) {
    if (!is_product(file)) continue;
    for (const Include& include : file.includes()) {
      SourceFile target;
      target.path = include.path;
      EXPECT_FALSE(include.quoted && target.is_test())
          << at(file, include.line) << ": " << include.path << " is for tests";
    }
  }
}

TEST(House, InstalledHeadersKnowNothingOfSrc) {
  for (const SourceFile& file : sources()) {
    if (!file.path.starts_with("include/")) continue;
    for (const Include& include : file.includes()) {
      const bool own = include.path.starts_with("hearth/");
      const bool standard = !include.quoted && include.path.find('/') == std::string::npos;
      EXPECT_TRUE(own || standard) << at(file, include.line) << ": an installed header may not include "
                                   << include.path;
    }
  }
}

struct Door {
  std::string header;
  std::set<std::string> rooms;
  bool in_headers = false;
};

std::vector<Door> doors() {
  std::vector<Door> found;
  for (const auto& row : read_table(kRepository / "tests/house/doors.txt")) {
    Door door{row[0], {row.begin() + 1, row.end()}};
    door.in_headers = door.rooms.erase("headers") > 0;
    found.push_back(std::move(door));
  }
  // Longest first, so that the first match is the longest.
  std::stable_sort(found.begin(), found.end(),
                   [](const Door& a, const Door& b) { return a.header.size() > b.header.size(); });
  return found;
}

TEST(House, ForeignHeadersComeThroughTheirDoors) {
  const auto table = doors();
  for (const SourceFile& file : sources()) {
    const std::string room = room_of(file.path);
    if (room.empty()) continue;
    for (const Include& include : file.includes()) {
      const bool standard = include.path.find_first_of("/.") == std::string::npos;
      const bool ours = include.path.starts_with("hearth/");
      const bool testing = file.is_test() && include.path.starts_with("gtest/");
      if (include.quoted || standard || ours || testing) continue;
      const auto door =
          std::find_if(table.begin(), table.end(), [&](const Door& d) { return include.path.starts_with(d.header); });
      ASSERT_NE(door, table.end()) << at(file, include.line) << ": <" << include.path
                                   << "> is not in tests/house/doors.txt";
      EXPECT_TRUE(file.is_test() || door->rooms.contains("*") || door->rooms.contains(room))
          << at(file, include.line) << ": <" << include.path << "> has no door in room " << room;
      EXPECT_TRUE(door->in_headers || file.is_test() || !file.is_header())
          << at(file, include.line) << ": <" << include.path << "> belongs into a .cc file";
    }
  }
}

TEST(House, FilesAndFunctionsStaySmall) {
  int long_files = 0, long_functions = 0, functions = 0;
  for (const SourceFile& file : sources()) {
    EXPECT_LE(file.lines(), kFileLinesMax) << file.path << " has " << file.lines() << " lines: split it by idea";
    if (file.lines() > kFileLinesUsual) {
      ++long_files;
      std::printf("  %4d lines  %s\n", file.lines(), file.path.c_str());
    }
    for (const Function& function : file.functions()) {
      ++functions;
      EXPECT_LE(function.length_lines, kFunctionLinesMax)
          << at(file, function.line) << ": " << function.name << " has " << function.length_lines << " lines: split it";
      if (function.length_lines > kFunctionLinesUsual) {
        ++long_functions;
        std::printf("  %4d lines  %s: %s\n", function.length_lines, at(file, function.line).c_str(),
                    function.name.c_str());
      }
    }
  }
  std::printf("%zu files, %d over %d lines; %d functions, %d over %d lines\n", sources().size(), long_files,
              kFileLinesUsual, functions, long_functions, kFunctionLinesUsual);
  EXPECT_GT(functions, 20) << "the reader of functions sees nothing";
}

TEST(House, ProductCodeHasOnlyTheThreeMacros) {
  for (const SourceFile& file : sources()) {
    if (!is_product(file)) continue;
    for (const std::string& macro : file.macros()) {
      const bool known = macro == "TRY" || macro == "CHECK" || macro == "LOG";
      const bool installed = file.path.starts_with("include/") && macro.starts_with("HEARTH_");
      EXPECT_TRUE(known || installed) << file.path << " defines the macro " << macro
                                      << "; write a function or a constant";
    }
  }
}

TEST(House, ProductCodeDoesNotThrow) {
  for (const SourceFile& file : sources()) {
    if (!is_product(file)) continue;
    for (const int line : file.lines_with_word(file.code, "throw")) {
      ADD_FAILURE() << at(file, line) << ": errors are values (base/result.h)";
    }
  }
}

TEST(House, NothingUsesTheStandardRegex) {
  for (const SourceFile& file : sources()) {
    for (const Include& include : file.includes()) {
      EXPECT_NE(include.path, "regex") << at(file, include.line) << ": std::regex overflows the stack on long input";
    }
  }
}

// The words that say "finish me later"; written in two parts so that this file does not contain them.
TEST(House, NothingIsLeftForLater) {
  const std::array<std::string, 4> marks{std::string("TO") + "DO", std::string("FIX") + "ME", std::string("XX") + "X",
                                         std::string("HA") + "CK"};
  for (const SourceFile& file : sources()) {
    for (const std::string& mark : marks) {
      for (const int line : file.lines_with_word(file.text, mark)) ADD_FAILURE() << at(file, line) << ": " << mark;
    }
  }
}

// "KvPageManager" -> kv page manager; "text_util.cc" -> text util cc
std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> words(1);
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) == 0 || std::isupper(byte) != 0) words.emplace_back();
    if (std::isalnum(byte) != 0) words.back() += static_cast<char>(std::tolower(byte));
  }
  return words;
}

bool says_nothing(std::string_view name) {
  static const std::set<std::string> kEmptyWords{"util",    "utils",   "utility", "common", "helper",
                                                 "helpers", "manager", "misc",    "stuff"};
  const auto words = words_of(name);
  return std::any_of(words.begin(), words.end(), [](const std::string& word) { return kEmptyWords.contains(word); });
}

TEST(House, NamesSayWhatAThingIs) {
  EXPECT_TRUE(says_nothing("KvPageManager"));
  EXPECT_FALSE(says_nothing("src/base/result.h"));
  for (const SourceFile& file : sources()) {
    EXPECT_FALSE(says_nothing(file.path)) << file.path << ": name the idea, not the drawer";
    for (const char* keyword : {"class ", "struct ", "namespace "}) {
      for (size_t i = file.code.find(keyword); i != std::string::npos; i = file.code.find(keyword, i + 1)) {
        const size_t begin = i + std::string_view(keyword).size();
        const std::string name = file.code.substr(begin, file.code.find_first_of(" ;:{<>\n", begin) - begin);
        EXPECT_FALSE(says_nothing(name)) << at(file, file.line_of(i)) << ": " << name;
      }
    }
  }
}

}  // namespace
}  // namespace hearth::house
