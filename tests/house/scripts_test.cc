// What a newcomer meets first: ./dev and the documents. Commands are listed, links lead somewhere.
#include <gtest/gtest.h>

#include <array>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace hearth::house {
namespace {

const std::filesystem::path kRepository = HEARTH_SOURCE_DIR;

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> buffer;
  for (size_t n = 0; (n = fread(buffer.data(), 1, buffer.size(), pipe.get())) > 0;) text.append(buffer.data(), n);
  return text;
}

// The commands of ./dev are its functions command_NAME.
std::vector<std::string> dev_commands() {
  std::vector<std::string> commands;
  const std::string script = read_text(kRepository / "dev");
  constexpr std::string_view kPrefix = "\ncommand_";
  for (size_t i = script.find(kPrefix); i != std::string::npos; i = script.find(kPrefix, i + 1)) {
    const size_t begin = i + kPrefix.size();
    commands.push_back(script.substr(begin, script.find('(', begin) - begin));
  }
  return commands;
}

TEST(Scripts, DevHelpListsEveryCommand) {
  const std::string help = output_of("bash '" + (kRepository / "dev").string() + "' help 2>&1 </dev/null");
  ASSERT_GE(dev_commands().size(), 8u);
  for (const std::string& command : dev_commands()) {
    EXPECT_NE(help.find("./dev " + command), std::string::npos) << "./dev help does not list " << command;
  }
}

// Every run of 64 hex digits.
std::set<std::string> digests_in(const std::string& text) {
  std::set<std::string> found;
  std::string run;
  for (const char c : text + " ") {
    if (std::isxdigit(static_cast<unsigned char>(c)) != 0) {
      run += c;
    } else {
      if (run.size() == 64) found.insert(run);
      run.clear();
    }
  }
  return found;
}

TEST(Scripts, TheFetchStepAndTheProgramKnowTheSameModels) {
  const auto program = digests_in(read_text(kRepository / "src/store/known_models.cc"));
  ASSERT_GE(program.size(), 2u);
  EXPECT_EQ(program, digests_in(read_text(kRepository / "packaging/fetch-model")));
  EXPECT_EQ(program, digests_in(read_text(kRepository / "docs/models.md")));
}

TEST(Scripts, LinksInTheDocumentsLeadSomewhere) {
  std::vector<std::filesystem::path> documents;
  for (const auto& folder : {kRepository, kRepository / "docs", kRepository / "docs/decisions"}) {
    if (!std::filesystem::exists(folder)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ".md") documents.push_back(entry.path());
    }
  }
  for (const auto& document : documents) {
    const std::string text = read_text(document);
    for (size_t i = text.find("]("); i != std::string::npos; i = text.find("](", i + 1)) {
      std::string target = text.substr(i + 2, text.find_first_of(")\n", i) - i - 2);
      target = target.substr(0, target.find('#'));
      if (target.empty() || target.find(':') != std::string::npos) continue;
      EXPECT_TRUE(std::filesystem::exists(document.parent_path() / target)) << document << " points to " << target;
    }
  }
}

}  // namespace
}  // namespace hearth::house
