// What a client was told is done stays done, whatever happens to the process.
#include "store/batch_journal.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "support/test_folder.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

class BatchJournalTest : public testing::Test {
 protected:
  std::unique_ptr<BatchJournal> open() { return BatchJournal::open(folder_ / "batches.db", key_).value(); }
  static BatchJob of(const std::string& tenant) {
    BatchJob batch;
    batch.tenant = tenant, batch.endpoint = "/v1/chat/completions", batch.input_file = "file-x",
    batch.metadata_json = "{}";
    return batch;
  }
  TestFolder home_;
  fs::path folder_ = home_.path();
  Key key_ = Key::from_bytes(std::vector<std::byte>(Key::kBytes, std::byte{9})).value();
};

TEST_F(BatchJournalTest, LinesAreAnsweredOnceAndTheLastOneMakesTheFiles) {
  auto journal = open();
  const BatchJob batch = journal->add_batch(of("a"), {{"one", "1"}, {"two", "2"}, {"three", "3"}}).value();
  auto lines = journal->waiting(2, {}).value();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1].custom_id, "two");
  EXPECT_EQ(lines[1].body, "2");
  ASSERT_EQ(journal->waiting(5, {{batch.id, 0}, {batch.id, 1}})->size(), 1u) << "those that run are not given again";
  EXPECT_TRUE(journal->answer(lines[0], true, "first"));
  EXPECT_TRUE(journal->answer(lines[0], true, "again")) << "a second answer changes nothing";
  EXPECT_TRUE(journal->answer(lines[1], false, "bad"));
  journal = open();  // after a restart
  EXPECT_EQ(journal->batch("a", batch.id)->state, BatchState::kInProgress);
  lines = journal->waiting(5, {}).value();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(journal->answer(lines[0], true, "third"));
  const BatchJob done = journal->batch("a", batch.id).value();
  EXPECT_EQ(done.state, BatchState::kCompleted);
  EXPECT_EQ(std::tuple(done.total, done.completed, done.failed), std::tuple(3, 2, 1));
  EXPECT_EQ(journal->content("a", done.output_file).value(), "first\nthird\n");
  EXPECT_EQ(journal->content("a", done.error_file).value(), "bad\n");
}

TEST_F(BatchJournalTest, AnotherTenantSeesNothingOfIt) {
  auto journal = open();
  const BatchJob batch = journal->add_batch(of("a"), {{"one", "1"}}).value();
  const JobFile file = journal->add_file({.tenant = "a", .name = "in.jsonl", .purpose = "batch"}, "content").value();
  EXPECT_EQ(journal->batch("b", batch.id).error().code, Code::kNotFound);
  EXPECT_EQ(journal->cancel("b", batch.id).error().code, Code::kNotFound);
  EXPECT_EQ(journal->content("b", file.id).error().code, Code::kNotFound);
  EXPECT_EQ(journal->remove_file("b", file.id).error().code, Code::kNotFound);
  EXPECT_TRUE(journal->files("b")->empty());
  EXPECT_TRUE(journal->batches("b")->empty());
  EXPECT_EQ(journal->files("a")->size(), 1u);
  EXPECT_TRUE(journal->remove_file("a", file.id));
  EXPECT_TRUE(journal->files("a")->empty());
}

TEST_F(BatchJournalTest, CancelledWorkIsGivenOutNoMoreAndWhatWasAnsweredIsKept) {
  auto journal = open();
  const BatchJob batch = journal->add_batch(of("a"), {{"one", "1"}, {"two", "2"}}).value();
  EXPECT_TRUE(journal->answer(journal->waiting(1, {}).value()[0], true, "first"));
  EXPECT_TRUE(journal->cancel("a", batch.id));
  EXPECT_EQ(journal->batch("a", batch.id)->state, BatchState::kCancelling);
  EXPECT_TRUE(journal->waiting(5, {})->empty());
  EXPECT_TRUE(journal->end_cancelled());
  const BatchJob done = journal->batch("a", batch.id).value();
  EXPECT_EQ(done.state, BatchState::kCancelled);
  EXPECT_EQ(journal->content("a", done.output_file).value(), "first\n");
}

TEST_F(BatchJournalTest, KilledAtAnyMomentItGoesOnWhereItWas) {
  constexpr int kLines = 40;
  std::vector<BatchJournal::NewLine> lines;
  for (int i = 0; i < kLines; ++i) lines.push_back({std::to_string(i), "body"});
  const BatchJob batch = open()->add_batch(of("a"), lines).value();
  for (int round = 0; open()->batch("a", batch.id)->state != BatchState::kCompleted; ++round) {
    ASSERT_LE(round, kLines) << "each round answers at least one";
    int told[2];
    ASSERT_EQ(::pipe(told), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      auto journal = open();
      for (;;) {
        const auto next = journal->waiting(1, {});
        if (!next || next->empty()) ::_exit(0);
        if (!journal->answer(next->front(), true, "answer " + next->front().custom_id)) ::_exit(1);
        if (::write(told[1], "x", 1) != 1) ::_exit(1);
      }
    }
    ::close(told[1]);
    char byte;
    for (int i = 0; i <= round % 4 && ::read(told[0], &byte, 1) == 1; ++i) continue;
    ::kill(child, SIGKILL);  // wherever it is in the next one
    ::close(told[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  }
  std::string expected;
  for (int i = 0; i < kLines; ++i) expected += fmt::format("answer {}\n", i);
  const auto journal = open();
  EXPECT_EQ(journal->content("a", journal->batch("a", batch.id)->output_file).value(), expected);
}

TEST_F(BatchJournalTest, NoContentIsReadableOnDiskAndAForeignKeyOrFileIsRefused) {
  {
    auto journal = open();
    journal->add_batch(of("a"), {{"one", "canary-8231"}}).value();
    journal->add_file({.tenant = "a", .name = "f", .purpose = "batch"}, "canary-8231").value();
    EXPECT_TRUE(journal->answer(journal->waiting(1, {}).value()[0], true, "canary-8231"));
  }
  for (const auto& file : fs::directory_iterator(folder_)) {
    std::ifstream in(file.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    EXPECT_EQ(bytes.find("canary-8231"), std::string::npos) << file.path();
  }
  const Key other = Key::from_bytes(std::vector<std::byte>(Key::kBytes, std::byte{1})).value();
  auto foreign = BatchJournal::open(folder_ / "batches.db", other).value();
  const auto files = foreign->files("a").value();
  EXPECT_EQ(foreign->content("a", files.front().id).error().code, Code::kCorrupt);
  std::ofstream(folder_ / "no.db") << std::string(5000, 'x');
  EXPECT_EQ(BatchJournal::open(folder_ / "no.db", key_).error().code, Code::kCorrupt);
}

}  // namespace
}  // namespace hearth
