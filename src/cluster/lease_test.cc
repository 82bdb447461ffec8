// Who owns a chain: the rule by itself, and what a machine keeps of it on its disk.
#include "cluster/lease.h"

#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "support/test_folder.h"

namespace hearth::cluster {
namespace {

using Do = LeaseRule::Do;
using Kept = LeaseRule::Kept;
using Time = LeaseRule::Time;

// What a broker does with a lease.
struct KeptLease {
  std::optional<Kept> kept;
  uint64_t next = 1;
  // One look of an owner; true if it has the chain now.
  Do look(LeaseRule& rule, const std::string& owner, Time now) {
    const Do what = rule.look(kept, now);
    if (what == Do::kWrite) {
      kept = Kept{.term = {.term = rule.term(), .owner = owner}, .revision = next++};
      rule.written();
    }
    return what;
  }
};

TEST(Lease, TheNextOwnerWaitsUntilTheFirstIsSilent) {
  KeptLease lease;
  LeaseRule box("box", 0), cellar("cellar", 0);
  EXPECT_EQ(lease.look(box, "box", Time(0)), Do::kWait) << "a broker that lost everything would say the same";
  EXPECT_EQ(lease.look(box, "box", LeaseRule::kSilent), Do::kWrite);
  EXPECT_EQ(box.term(), 1u);
  Time now = LeaseRule::kSilent;
  for (int i = 0; i < 20; ++i, now += LeaseRule::kRenew) {
    EXPECT_EQ(lease.look(box, "box", now), Do::kWrite);
    EXPECT_EQ(lease.look(cellar, "cellar", now), Do::kWait);
  }
  EXPECT_EQ(cellar.other(), "box");
  EXPECT_EQ(lease.look(cellar, "cellar", now + LeaseRule::kSilent), Do::kWrite) << "box is dead";
  EXPECT_EQ(cellar.term(), 2u);
  EXPECT_EQ(lease.look(box, "box", now + LeaseRule::kSilent), Do::kLost) << "or only slept";
}

TEST(Lease, OneThatIsGivenBackIsTakenAtOnce) {
  KeptLease lease{.kept = Kept{.term = {.term = 4, .owner = ""}, .revision = 9}};
  LeaseRule cellar("cellar", 1);
  EXPECT_EQ(lease.look(cellar, "cellar", Time(0)), Do::kWrite);
  EXPECT_EQ(cellar.term(), 5u);
}

TEST(Lease, ABrokerThatLostEverythingLetsNoOldOwnerIn) {
  KeptLease lease;
  LeaseRule old("box", 5), now_owner("cellar", 5);
  lease.kept = Kept{.term = {.term = 5, .owner = ""}, .revision = 1};
  EXPECT_EQ(lease.look(now_owner, "cellar", Time(0)), Do::kWrite);
  EXPECT_EQ(now_owner.term(), 6u);
  lease.kept.reset();  // the broker's disk is empty
  EXPECT_EQ(lease.look(old, "box", Time(100)), Do::kWait);
  EXPECT_EQ(lease.look(now_owner, "cellar", Time(2000)), Do::kWrite) << "who owns it says so again, with its term";
  EXPECT_EQ(now_owner.term(), 6u);
  EXPECT_EQ(lease.look(old, "box", Time(2100)), Do::kWait);
  // Even if the old one were first there, the one that lives does not give way to a lower or equal term.
  lease.kept = Kept{.term = {.term = 6, .owner = "box"}, .revision = 1};
  EXPECT_EQ(now_owner.look(lease.kept, Time(3000)), Do::kWrite);
}

TEST(Lease, TermsOnDiskNeverGoBack) {
  const TestFolder folder;
  const auto path = folder.path() / "terms";
  {
    const auto terms = TermFile::open(path).value();
    EXPECT_EQ(terms->of("home").term, 0u);
    EXPECT_TRUE(terms->raise("home", {.term = 6, .owner = "cellar"}));
    EXPECT_TRUE(terms->raise("other", {.term = 1, .owner = "box"}));
  }
  const auto terms = TermFile::open(path).value();  // started again
  EXPECT_EQ(terms->of("home"), (Term{.term = 6, .owner = "cellar"}));
  EXPECT_TRUE(terms->raise("home", {.term = 6, .owner = "cellar"})) << "the same again";
  const auto old = terms->raise("home", {.term = 5, .owner = "box"});
  ASSERT_FALSE(old);
  EXPECT_TRUE(old.error().message.contains("cellar")) << old.error().message;
  EXPECT_FALSE(terms->raise("home", {.term = 6, .owner = "box"})) << "one term has one owner";
  EXPECT_TRUE(terms->raise("home", {.term = 7, .owner = "box"}));
  EXPECT_FALSE(terms->raise("home", {.term = 1ull << 40, .owner = "box"})) << "more than an epoch can hold";
  folder.write("broken", "home six cellar\n");
  EXPECT_FALSE(TermFile::open(folder.path() / "broken")) << "a guess would let an old owner in";
}

TEST(Lease, NamesOfChains) {
  EXPECT_TRUE(check_chain_name("home-1_a"));
  for (const std::string& name :
       {std::string(), std::string("a b"), std::string("a.b"), std::string("*"), std::string(64, 'a')})
    EXPECT_FALSE(check_chain_name(name)) << name;
}

}  // namespace
}  // namespace hearth::cluster
