// Installs the library and builds foreign projects with it, as a user's own build would: find_package, pkg-config, C and C++.
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "support/program.h"
#include "support/real_model.h"
#include "support/test_folder.h"

namespace hearth::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSmallModel = HEARTH_TEST_DATA "/families/llama/model.gguf";

class Package : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TestFolder();
    const ProgramResult installed =
        run({HEARTH_CMAKE, "--install", HEARTH_BUILD, "--prefix", built(), "--component", "library"});
    ASSERT_EQ(installed.exit_code, 0) << installed.out << installed.err;
    fs::rename(built(), prefix());  // an installed package may be moved
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  static std::string built() { return folder_->path().string() + "/built"; }
  static std::string prefix() { return folder_->path().string() + "/installed"; }
  static std::string library_folder() {
    for (const auto& entry : fs::recursive_directory_iterator(prefix()))
      if (entry.path().filename() == "libhearth.so") return entry.path().parent_path();
    return {};
  }
  static ProgramResult run(const std::vector<std::string>& arguments, const Environment& environment = {}) {
    return run_program(arguments, environment);
  }
  // Configures and builds a project of this folder; the path of its program.
  static std::string build(const std::string& project) {
    const std::string folder = folder_->path().string() + "/" + project;
    const ProgramResult configured = run(
        {HEARTH_CMAKE, "-S", HEARTH_PACKAGE_PROJECTS "/" + project, "-B", folder, "-DCMAKE_PREFIX_PATH=" + prefix()});
    EXPECT_EQ(configured.exit_code, 0) << configured.out << configured.err;
    const ProgramResult made = run({HEARTH_CMAKE, "--build", folder});
    EXPECT_EQ(made.exit_code, 0) << made.out << made.err;
    return folder + "/ask";
  }
  static void expect_answers(const std::string& program, const Environment& environment = {}) {
    const ProgramResult small = run({program, kSmallModel, "THE CAT", "8"}, environment);
    EXPECT_EQ(small.exit_code, 0) << small.err;
    EXPECT_EQ(small.out.size(), 8u) << small.out;  // its tokens are single characters
    if (const auto real = real_model()) {
      const ProgramResult answer = run({program, *real, "The capital of France is", "4"}, environment);
      EXPECT_EQ(answer.exit_code, 0) << answer.err;
      EXPECT_NE(answer.out.find("Paris"), std::string::npos) << answer.out;
    }
  }

 private:
  static inline TestFolder* folder_ = nullptr;
};

TEST_F(Package, AForeignCProjectFindsItAndGetsAnAnswer) { expect_answers(build("c_project")); }

TEST_F(Package, AForeignCppProjectUsesTheCppFace) { expect_answers(build("cpp_project")); }

TEST_F(Package, AForeignProgramReadsTheErrorOfAMissingModel) {
  const ProgramResult missing = run({build("c_project"), "/nowhere/model.gguf", "x", "1"});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_NE(missing.err.find("load: not_found: /nowhere/model.gguf"), std::string::npos) << missing.err;
}

TEST_F(Package, PkgConfigGivesTheFlags) {
  const Environment environment{{"PKG_CONFIG_PATH", library_folder() + "/pkgconfig"},
                                {"LD_LIBRARY_PATH", library_folder()}};
  const ProgramResult flags = run({"pkg-config", "--cflags", "--libs", "hearth"}, environment);
  ASSERT_EQ(flags.exit_code, 0) << flags.err;
  const std::string program = library_folder() + "/ask";
  std::vector<std::string> compile{HEARTH_CC, "-std=c99", HEARTH_PACKAGE_PROJECTS "/c_project/main.c", "-o", program};
  std::istringstream words(flags.out);
  for (std::string word; words >> word;) compile.push_back(word);
  const ProgramResult compiled = run(compile);
  ASSERT_EQ(compiled.exit_code, 0) << compiled.err;
  expect_answers(program, environment);
}

// Anything else that is visible would collide with what the user's program brings along.
TEST_F(Package, TheLibraryShowsOnlyItsOwnFunctions) {
  const ProgramResult symbols = run({HEARTH_NM, "-D", "--defined-only", library_folder() + "/libhearth.so"});
  ASSERT_EQ(symbols.exit_code, 0) << symbols.err;
  std::istringstream lines(symbols.out);
  int functions = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string name = line.substr(line.rfind(' ') + 1);
    if (name.starts_with("HEARTH_0")) continue;  // the version itself
    EXPECT_TRUE(name.starts_with("hearth_")) << line;
    ++functions;
  }
  EXPECT_EQ(functions, 12);
}

}  // namespace
}  // namespace hearth::test
