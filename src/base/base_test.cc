#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "base/checked.h"
#include "base/exact_math.h"
#include "base/mapped_file.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "base/topology.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

Result<int> half(int x) {
  if (x % 2 != 0) return fail(Code::kInvalidArgument, "{} is odd", x);
  return x / 2;
}
Result<int> quarter(int x) {
  const int h = TRY(half(x));
  return TRY(half(h));
}

TEST(Result, TryReturnsTheFirstError) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().message, "3 is odd");
}

TEST(Result, EveryCodeHasItsOwnRow) {
  for (int c = 0; c <= static_cast<int>(Code::kInternal); ++c)
    EXPECT_EQ(static_cast<int>(info(static_cast<Code>(c)).code), c);
}

TEST(Checked, NeverWraps) {
  const Checked big = UINT64_MAX;
  EXPECT_FALSE((big + 1).ok());
  EXPECT_FALSE((big * 2).ok());
  EXPECT_FALSE((Checked(1) - 2).ok());
  EXPECT_FALSE((Checked(1) / 0).ok());
  EXPECT_FALSE(Checked(int64_t{-1}).ok());
  EXPECT_FALSE(big.aligned(32).ok());
  EXPECT_FALSE((big * 2 / 4).ok()) << "an overflow in the middle must not be forgotten";
  EXPECT_EQ((Checked(33).aligned(32)).value(), 64u);
  EXPECT_FALSE(Checked(33).aligned(0).ok());
  EXPECT_FALSE(Checked(33).aligned(24).ok());
}

TEST(MappedFile, MissingAndEmptyFilesAndFolders) {
  EXPECT_EQ(MappedFile::open("/nonexistent/x").error().code, Code::kNotFound);
  EXPECT_EQ(MappedFile::open("/").error().code, Code::kInvalidArgument);
  const TestFolder folder;
  const std::string path = folder.path() / "empty";
  std::ofstream(path).close();
  EXPECT_TRUE(MappedFile::open(path).value().bytes().empty());
}

TEST(WriteFileAtomically, ReplacesTheWholeContent) {
  const TestFolder folder;
  const std::string path = folder.path() / "atomic";
  for (const std::string text : {"a long first text", "short"}) {
    ASSERT_TRUE(write_file_atomically(path, std::as_bytes(std::span(text))));
    EXPECT_EQ(read_file(path, 100).value(), text);
  }
  EXPECT_EQ(read_file(path, 2).error().code, Code::kLimit);
}

TEST(ExactMath, AgreesWithTheCLibrary) {
  for (double x = -40.0; x < 40.0; x += 0.37) {
    EXPECT_NEAR(exact_exp(x) / std::exp(x), 1.0, 1e-13);
    const double angle = x * 1000.0;
    EXPECT_NEAR(exact_sin_cos(angle).sin, std::sin(angle), 1e-12);
    EXPECT_NEAR(exact_sin_cos(angle).cos, std::cos(angle), 1e-12);
    EXPECT_NEAR(exact_log(std::exp(x)), x, 1e-12);
  }
  EXPECT_NEAR(exact_pow(1e6, -0.25), std::pow(1e6, -0.25), 1e-15);
  EXPECT_EQ(exact_exp(-1e9), 0.0);
  EXPECT_EQ(exact_exp(0.0), 1.0);
}

TEST(ThreadPool, EachIndexOnceForAnyThreadCount) {
  for (int n_threads : {1, 2, 5}) {
    ThreadPool pool(n_threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::atomic<int>> hits(101);
      pool.parallel_for(101, 7, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) hits[static_cast<size_t>(i)]++;
      });
      for (auto& hit : hits) ASSERT_EQ(hit.load(), 1);
    }
  }
}

// Loops follow each other at once, so late workers meet the next loop: no piece may be lost, done twice, or done for a loop
// that has ended (its body and counts are gone then).
TEST(ThreadPool, LoopsThatFollowEachOtherKeepTheirPiecesApart) {
  for (int n_threads : {2, 3, 8}) {
    ThreadPool pool(n_threads);
    int64_t expected = 0;
    std::vector<int64_t> sums(static_cast<size_t>(n_threads) * 8);
    for (int round = 0; round < 5000; ++round) {
      const int64_t count = 1 + round % 37;
      expected += count * round;
      pool.parallel_for(count, 1 + round % 3, [&, round](int64_t begin, int64_t end, int thread) {
        sums[static_cast<size_t>(thread) * 8] += (end - begin) * round;
      });
    }
    EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), int64_t{0}), expected) << n_threads << " threads";
  }
}

TEST(ThreadPool, LoopsLongerThanItsCountersAreWhole) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  constexpr int64_t kCount = 1'000'003;
  pool.parallel_for(kCount, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
  EXPECT_EQ(sum.load(), kCount);
}

// Threads that are not used sleep and come back, and the pool ends with some asleep.
TEST(ThreadPool, FewerThreadsDoAllOfALoop) {
  ThreadPool pool(4);
  for (int round = 0; round < 400; ++round) {
    const int used = 1 + round * 7 % 4;
    pool.use(used);
    std::atomic<int64_t> sum{0};
    pool.parallel_for(300, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
    ASSERT_EQ(sum.load(), 300) << used;
  }
  pool.use(1);
  std::set<std::thread::id> ids;
  pool.parallel_for(300, 1, [&](int64_t, int64_t, int) { ids.insert(std::this_thread::get_id()); });
  EXPECT_EQ(ids.size(), 1u);
}

TEST(ThreadPool, WorkersAndTheCallerStayOnTheCoresTheyAreGiven) {
  const std::vector<int> cpus = allowed_cpus();
  ASSERT_FALSE(cpus.empty());
  ThreadPool pool(2);
  EXPECT_FALSE(pool.keep_caller()) << "nobody has said where";
  pool.stay_on(std::vector<int>{-1, CPU_SETSIZE});
  EXPECT_FALSE(pool.keep_caller()) << "there are no such cores";
  std::jthread([&] {  // the test's own thread stays free
    for (const int cpu : {cpus.back(), cpus.front()}) {
      pool.stay_on({&cpu, 1});
      EXPECT_TRUE(pool.keep_caller());
      std::atomic<int> elsewhere{0};
      for (int round = 0; round < 50; ++round)
        pool.parallel_for(64, 1, [&](int64_t, int64_t, int) { elsewhere += ::sched_getcpu() != cpu; });
      EXPECT_EQ(elsewhere.load(), 0);
    }
  })
      .join();
}

TEST(ThreadPool, WakesUpFromSleep) {
  ThreadPool pool(2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int> pieces{0};
    pool.parallel_for(64, 1, [&](int64_t, int64_t, int) { ++pieces; });
    EXPECT_EQ(pieces.load(), 64);
  }
}

}  // namespace
}  // namespace hearth
