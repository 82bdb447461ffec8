// What an outage leaves behind: nothing of class A, a bounded file, and the order.
#include "gateway/queue.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "support/test_folder.h"

namespace hearth::gateway {
namespace {

Record record(int64_t at, RecordClass record_class = RecordClass::kB, std::string to = "cloud") {
  return {std::move(to), "pump/pressure", record_class, static_cast<double>(at) / 3, at, Quality::kGood, 0};
}

Result<void> push(RecordQueue& queue, std::vector<Record> records) { return queue.push(records); }

class QueueTest : public testing::Test {
 protected:
  std::unique_ptr<RecordQueue> open(std::array<uint64_t, 3> bytes = {1u << 30, 1u << 30, 1u << 30}) {
    return RecordQueue::open(path(), {bytes}).value();
  }
  [[nodiscard]] std::filesystem::path path() const { return folder_.path() / "queue.db"; }
  static std::vector<int64_t> times(const std::vector<Record>& records) {
    std::vector<int64_t> all;
    for (const Record& each : records) all.push_back(each.time_ms);
    return all;
  }
  TestFolder folder_;
};

TEST_F(QueueTest, RecordsComeBackAsTheyWereAndInTheirOrderWhateverTheClockSays) {
  auto queue = open();
  Record text = record(5);
  text.value = std::string("a\"b\n'c"), text.quality = Quality::kStale;
  Record flag = record(1);
  flag.value = true;
  ASSERT_TRUE(push(*queue, {record(9), text, flag}));
  ASSERT_TRUE(push(*queue, {record(2), record(7, RecordClass::kA, "house")}));
  queue = open();  // a restart
  const auto records = queue->next("cloud", 10).value();
  EXPECT_EQ(times(records), (std::vector<int64_t>{9, 5, 1, 2}));
  EXPECT_EQ(records[0].value, Value(3.0));
  EXPECT_EQ(records[1].value, text.value);
  EXPECT_EQ(records[1].quality, Quality::kStale);
  EXPECT_EQ(records[2].value, Value(true));
  EXPECT_EQ(records[3].value, Value(2.0 / 3));
  ASSERT_TRUE(queue->done("cloud", records[1].number));
  EXPECT_EQ(times(queue->next("cloud", 10).value()), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(times(queue->next("house", 10).value()), (std::vector<int64_t>{7})) << "each receiver has its own order";
  ASSERT_TRUE(push(*queue, {record(11)}));
  EXPECT_GT(queue->next("cloud", 10)->back().number, records[3].number);
}

TEST_F(QueueTest, WhatComesTwiceWaitsOnce) {
  auto queue = open();
  ASSERT_TRUE(push(*queue, {record(1), record(2), record(1)}));
  ASSERT_TRUE(push(*queue, {record(2), record(3)}));
  EXPECT_EQ(times(queue->next("cloud", 10).value()), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(queue->figures().repeated, 2u);
}

// thingsboard-gateway #1483 (full, and never recovers) and #2094 (45 GB of it).
TEST_F(QueueTest, AFullClassLosesItsOldestAndNoOtherClassLosesAnything) {
  auto queue = open({1u << 20, 32u << 10, 16u << 10});
  for (int64_t at = 0; at < 3000; at += 60) {
    std::vector<Record> some;
    for (int64_t i = at; i < at + 60; i += 3)
      for (const RecordClass each : {RecordClass::kA, RecordClass::kB, RecordClass::kC})
        some.push_back(record(i + static_cast<int64_t>(each), each));
    ASSERT_TRUE(push(*queue, some));
  }
  QueueFigures figures = queue->figures();
  EXPECT_EQ(figures.records[0], 1000u);
  EXPECT_EQ(figures.dropped[0], 0u);
  EXPECT_LE(figures.bytes[1], 32u << 10);
  EXPECT_LE(figures.bytes[2], 16u << 10);
  EXPECT_EQ(figures.records[1] + figures.dropped[1], 1000u);
  EXPECT_EQ(figures.records[2] + figures.dropped[2], 1000u);
  EXPECT_EQ(queue->next("cloud", 10'000)->back().time_ms, 2999) << "the newest are there";
  const auto size = std::filesystem::file_size(path());
  for (int64_t at = 3000; at < 9000; at += 2)
    ASSERT_TRUE(push(*queue, {record(at, RecordClass::kC), record(at + 1, RecordClass::kC)}));
  EXPECT_LE(std::filesystem::file_size(path()), size + (64u << 10)) << "room of dropped records is used again";
  const auto all = queue->next("cloud", 100'000).value();
  ASSERT_TRUE(queue->done("cloud", all.back().number));
  figures = queue->figures();
  EXPECT_EQ(figures.records, (std::array<uint64_t, 3>{}));
  EXPECT_EQ(figures.bytes, (std::array<uint64_t, 3>{}));
}

// A process that pushes as fast as it can and says after each push how far it is, killed somewhere.
TEST_F(QueueTest, WhatWasTakenIsThereAfterAKill) {
  for (int round = 0; round < 3; ++round) {
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe(pipe.data()), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      auto queue = RecordQueue::open(path(), {});
      for (int64_t at = round * 1'000'000;; ++at) {
        if (!queue || !push(**queue, {record(at, RecordClass::kA)})) ::_exit(1);
        if (::write(pipe[1], &at, sizeof at) != sizeof at) ::_exit(1);
      }
    }
    int64_t last = -1;
    for (int i = 0; i < 20 + round * 7; ++i) ASSERT_EQ(::read(pipe[0], &last, sizeof last), ssize_t{sizeof last});
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(pipe[1]);
    while (::read(pipe[0], &last, sizeof last) == ssize_t{sizeof last}) continue;
    ::close(pipe[0]);
    const auto records = open()->next("cloud", 1'000'000).value();
    const int64_t first = round * 1'000'000;
    int64_t expected = first;
    for (const Record& each : records) {
      if (each.time_ms < first) continue;
      ASSERT_EQ(each.time_ms, expected) << "nothing is missing and nothing is out of order";
      ++expected;
    }
    EXPECT_GE(expected, last + 1) << "what it said was taken is there";
  }
}

// A small disk of its own, in a namespace of this process; false where nobody may have one.
bool mount_small_disk(const std::filesystem::path& at) {
  if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  return ::mount("tmpfs", at.c_str(), "tmpfs", 0, "size=6m") == 0;
}

enum Ending { kFine, kNoDisk, kRefused, kLostA, kDroppedNothing, kNotFull, kWrongOrder, kNoRecovery };

Ending live_on_a_full_disk(const std::filesystem::path& folder) {
  if (!mount_small_disk(folder)) return kNoDisk;
  const auto filler = folder / "other_data";
  auto queue = RecordQueue::open(folder / "queue.db", {{1u << 30, 1u << 30, 1u << 30}}).value();
  int64_t at = 0;
  for (int i = 0; i < 4000; ++i)
    if (!push(*queue, {record(at++, RecordClass::kC)})) return kRefused;
  {
    std::ofstream file(filler, std::ios::binary);
    while (file.write(std::string(4096, 'x').c_str(), 4096).flush()) continue;
  }
  if (std::filesystem::space(folder).available > 0) return kNotFull;
  for (int i = 0; i < 3000; ++i)
    if (!push(*queue, {record(at++, i % 2 == 0 ? RecordClass::kA : RecordClass::kC)})) return kRefused;
  QueueFigures figures = queue->figures();
  if (figures.records[0] != 1500 || figures.dropped[0] != 0) return kLostA;
  if (figures.dropped[2] == 0) return kDroppedNothing;
  std::filesystem::remove(filler);
  for (int i = 0; i < 5000; ++i)
    if (!push(*queue, {record(at++, RecordClass::kC)})) return kRefused;
  if (queue->figures().dropped[2] > figures.dropped[2] + 1000) return kNoRecovery;
  queue = RecordQueue::open(folder / "queue.db", {{1u << 30, 1u << 30, 1u << 30}}).value();
  int64_t last = -1;
  const auto all = queue->next("cloud", 100'000).value();
  for (const Record& each : all) {
    if (each.time_ms <= last) return kWrongOrder;
    last = each.time_ms;
  }
  return queue->figures().records[0] == 1500 ? kFine : kLostA;
}

TEST_F(QueueTest, OnAFullDiskLowClassesMakeRoomForClassAAndItRecovers) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(live_on_a_full_disk(folder_.path()));
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  if (WEXITSTATUS(status) == kNoDisk) GTEST_SKIP() << "no namespaces for mounting here";
  EXPECT_EQ(WEXITSTATUS(status), kFine);
}

TEST_F(QueueTest, AFileThatIsNoQueueIsSaidToBeNone) {
  std::ofstream(path()) << std::string(8192, 'x');
  EXPECT_EQ(RecordQueue::open(path(), {}).error().code, Code::kCorrupt);
}

}  // namespace
}  // namespace hearth::gateway
