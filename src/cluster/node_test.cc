// Machines of a site over real connections: owners and nodes in this process, on addresses of this machine.
#include "cluster/node.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "cluster/frame_link.h"
#include "cluster/machine_rates.h"
#include "cluster/push.h"
#include "cluster/site.h"
#include "cluster/test_nodes.h"

namespace hearth::cluster {
namespace {

TEST_F(Nodes, AMachineThatIsTooHotGivesItsLayersAwayAndGetsThemBack) {
  const auto whole = answers(*make_engine({}, {}));
  const auto hot = start_node("hot"), other = start_node("other"), spare = start_node("spare");
  const std::vector nodes{address_of(*hot), address_of(*other), address_of(*spare)};
  RemoteChainOptions options{.tls = tls_,
                             .nodes = nodes,
                             .plan = even_plan(0, 2, 2),
                             .timing = {.silence = Time(60'000), .second_chance = Time(100)}};
  std::shared_ptr<Backend> backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  const auto chain = RemoteChain::create(std::move(options), pack(), backend).value();
  const auto stages = [](const std::unique_ptr<Node>& node) { return !node->stages().empty(); };
  // Each answer goes on until the layers are where they are wanted.
  DecoderOptions decoder{.context = kContext, .rows_max = 0, .progress = {}};
  decoder.layers = LayerRange{0, 0};
  const auto engine =
      Engine::create(load_model(pack(), backend, decoder).value(), {.parallel = 3, .chain = chain}).value();
  EXPECT_EQ(answers(*engine), whole);
  hot->set_away(true);
  for (int i = 0; i < 200 && stages(hot); ++i) EXPECT_EQ(answers(*engine), whole);
  EXPECT_FALSE(stages(hot));
  EXPECT_TRUE(stages(spare));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(answers(*engine), whole);
  EXPECT_FALSE(stages(hot)) << "it is still hot";
  hot->set_away(false);
  for (int i = 0; i < 200 && !stages(hot); ++i) EXPECT_EQ(answers(*engine), whole);
  EXPECT_TRUE(stages(hot));
  EXPECT_EQ(chain->stats().losses, 0u);
  EXPECT_GE(chain->stats().moves, 2u);
}

TEST_F(Nodes, WhatALinkTakesIsMeasured) {
  const auto node = start_node("one");
  const auto link = measure_link(*tls_, address_of(*node));
  ASSERT_TRUE(link) << link.error().message;
  EXPECT_GT(link->seconds, 0);
  EXPECT_GT(link->bytes_per_second, 1e6);
  EXPECT_LT(link->bytes_per_second, 1e12);
  EXPECT_FALSE(measure_link(*tls_, parse_listen_address("127.0.0.1:1").value()));
}

TEST_F(Nodes, AnswerAsOneMachine) {
  const auto whole = answers(*make_engine({}, {}));
  ASSERT_EQ(whole[1].size(), 60u);
  const auto one = start_node("one"), two = start_node("two");
  EXPECT_EQ(answers(*make_engine({address_of(*one)}, even_plan(0, 2, 1))), whole) << "one stage";
  EXPECT_EQ(answers(*make_engine({address_of(*one)}, even_plan(1, 2, 1))), whole) << "one stage and the owner";
  EXPECT_EQ(answers(*make_engine({address_of(*one), address_of(*two)}, even_plan(0, 2, 2))), whole) << "two stages";
  EXPECT_GT(one->stats().steps, 60u);
  EXPECT_EQ(one->stats().refused + one->stats().stale_steps, 0u);
}

TEST_F(Nodes, FetchTheLayersTheyHaveNot) {
  const auto whole = answers(*make_engine({}, {}));
  const auto one = start_node("one", false), two = start_node("two", false);
  const std::vector<ListenAddress> both{address_of(*one), address_of(*two)};
  EXPECT_EQ(answers(*make_engine(both, even_plan(0, 2, 2))), whole);
  // What was fetched is there the next time.
  EXPECT_EQ(answers(*make_engine(both, even_plan(0, 2, 2))), whole);
}

TEST_F(Nodes, CopiesOfLayersComeFromWhoHasThem) {
  const auto whole = answers(*make_engine({}, {}));
  const auto one = start_node("one", false), two = start_node("two", false), spare = start_node("spare", false);
  const auto engine = make_engine({address_of(*one), address_of(*two), address_of(*spare)}, even_plan(0, 2, 2));
  uint64_t layers = 0;
  const Checkpoint file = open_checkpoint(pack()).value();
  const Pack parsed = parse_pack(file.files().front().bytes()).value();
  for (const PackSegment& segment : parsed.manifest.segments)
    if (segment.kind == SegmentKind::kLayer) layers += segment.bytes;
  const auto given = [&] { return one->stats().given_bytes + two->stats().given_bytes; };
  for (int i = 0; i < 200 && given() < layers; ++i) EXPECT_EQ(answers(*engine), whole);
  EXPECT_GE(given(), layers);
}

TEST_F(Nodes, APushedModelLeavesOnceAndReachesAll) {
  std::vector<std::unique_ptr<Node>> nodes;
  std::vector<ListenAddress> addresses;
  for (const char* name : {"one", "two", "three", "four"}) {
    nodes.push_back(start_node(name, false));
    addresses.push_back(address_of(*nodes.back()));
  }
  uint64_t told = 0;
  const auto pushed = push_pack(pack(), *tls_, addresses, [&](uint64_t sent, uint64_t) { told = sent; });
  ASSERT_TRUE(pushed) << pushed.error().message;
  EXPECT_LE(pushed->sent_bytes, pushed->pack_bytes);
  EXPECT_EQ(told, pushed->sent_bytes);
  uint64_t given = 0;
  for (const auto& node : nodes) given += node->stats().given_bytes;
  EXPECT_EQ(given, 3 * pushed->sent_bytes) << "and each of the four has it";
  // Nothing is left to be sent, and it is the model.
  EXPECT_EQ(push_pack(pack(), *tls_, addresses, {})->sent_bytes, 0u);
  const auto whole = answers(*make_engine({}, {}));
  EXPECT_EQ(answers(*make_engine({addresses[3]}, even_plan(0, 2, 1))), whole);
  // A machine that is not there is named; the others are served.
  std::filesystem::remove_all(path("one"));
  nodes[1].reset();
  const auto without = push_pack(pack(), *tls_, addresses, {});
  ASSERT_FALSE(without);
  EXPECT_TRUE(without.error().message.starts_with(addresses[1].text)) << without.error().message;
  EXPECT_EQ(push_pack(pack(), *tls_, std::span(addresses).first(1), {})->sent_bytes, 0u) << "it had all of it";
}

TEST_F(Nodes, ALostStageIsReplacedInTheMiddleOfAnswers) {
  const auto whole = answers(*make_engine({}, {}));
  for (const int with_spare : {0, 1, 2}) {
    auto one = start_node("one"), two = start_node("two"), three = start_node("three");
    std::vector<ListenAddress> nodes{address_of(*one), address_of(*two)};
    if (with_spare == 1) nodes.push_back(address_of(*three));
    const auto engine = make_engine(nodes, even_plan(0, 2, 2), [&](int step) {
      if (step == 20) two.reset();
      if (step == 40 && with_spare == 2) one.reset();  // both: the owner goes on alone
    });
    const auto told = answers(*engine);
    EXPECT_EQ(told, whole) << with_spare;
    if (with_spare == 1) {
      EXPECT_GT(three->stats().steps, 0u);
    }
    EXPECT_EQ(answers(*engine), whole) << "and afterwards";
  }
}

TEST_F(Nodes, TellWhatIsWrongWhenNoneIsThere) {
  std::shared_ptr<Backend> backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  const auto nobody = parse_listen_address("127.0.0.1:1").value();
  const auto chain =
      RemoteChain::create({.tls = tls_, .nodes = {nobody}, .plan = even_plan(0, 2, 1)}, pack(), backend).value();
  const auto started = chain->start({.kv_type = KvType::kF16, .positions_max = 64, .sequences_max = 2}, 64);
  ASSERT_FALSE(started);
  EXPECT_TRUE(started.error().message.contains("127.0.0.1:1")) << started.error().message;
}

TEST_F(Nodes, NonsenseAndStaleStepsAreRefused) {
  const auto node = start_node("one");
  const auto dial = [&](const Message& first) {
    auto link = PeerLink::dial(*tls_, address_of(*node), kPatience).value();
    EXPECT_TRUE(link->send_all(to_bytes({1, 0, first}), kPatience));
    return link;
  };
  const auto ended = [](PeerLink& link) {
    FrameReader reader;
    return !next_frame(link, reader, kPatience);
  };
  EXPECT_TRUE(ended(*dial(Ping{}))) << "not a hello";
  EXPECT_TRUE(ended(*dial(Hello{LinkClass::kSteps, {}}))) << "a session that nobody opened";
  const auto garbage = dial(Hello{LinkClass::kControl, {std::byte{1}}});
  EXPECT_TRUE(garbage->send_all(std::vector<std::byte>(100, std::byte{0xff}), kPatience));
  EXPECT_TRUE(ended(*garbage));
  // A stage that has an epoch takes no steps of an older one.
  SessionId session{std::byte{2}};
  const auto control = dial(Hello{LinkClass::kControl, session});
  const Checkpoint checkpoint = open_checkpoint(pack()).value();
  Assign assign{.model = pack_source(checkpoint.files().front().bytes()).value(),
                .pack_bytes = checkpoint.file_bytes(),
                .layers = {0, 2},
                .context = 64,
                .rows_max = 8,
                .kv_type = KvType::kF16,
                .positions_max = 64,
                .sequences_max = 2,
                .next = ""};
  FrameReader reader;
  EXPECT_TRUE(control->send_all(to_bytes({7, 0, assign}), kPatience));
  EXPECT_TRUE(std::holds_alternative<Ready>(next_frame(*control, reader, kPatience).value().message));
  const auto results = dial(Hello{LinkClass::kResults, session}), steps = dial(Hello{LinkClass::kSteps, session});
  const Step step{
      .ops = {{SequenceOp::Kind::kOpen, 0, 0}}, .rows = {{0, 0, 1}}, .hidden = std::vector<float>(32, 1.0f)};
  EXPECT_TRUE(steps->send_all(to_bytes({6, 1, step}), kPatience));
  EXPECT_TRUE(steps->send_all(to_bytes({7, 1, step}), kPatience));
  EXPECT_TRUE(steps->send_all(to_bytes({7, 1, step}), kPatience));  // again: it is answered, not run
  FrameReader answers;
  for (int i = 0; i < 2; ++i) {
    const auto frame = next_frame(*results, answers, kPatience);
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->epoch, 7u);
    EXPECT_TRUE(std::holds_alternative<StepAnswer>(frame->message));
  }
  EXPECT_EQ(node->stats().stale_steps, 1u);
  EXPECT_EQ(node->stats().steps, 1u);
}

TEST_F(Nodes, JoinWithAnInvitationOnce) {
  std::atomic<bool> never{false};
  const auto desk = InvitationDesk::open(path("site"), parse_listen_address("127.0.0.1:0").value()).value();
  const Invitation invitation = parse_invitation(to_text(desk->invitation())).value();
  Result<std::string> joined;
  std::jthread waits([&] { joined = desk->wait_for_one(never, std::chrono::seconds(60)); });
  Invitation wrong = invitation;
  wrong.secret[0] = wrong.secret[0] == '0' ? '1' : '0';
  EXPECT_FALSE(join_site(path("burglar"), wrong, "burglar"));
  EXPECT_FALSE(open_site(path("burglar")));
  wrong = invitation;
  wrong.authority_digest[0] = wrong.authority_digest[0] == '0' ? '1' : '0';
  EXPECT_FALSE(join_site(path("misled"), wrong, "misled")) << "another authority than the token's";
  const auto done = join_site(path("cellar"), invitation, "cellar");
  ASSERT_TRUE(done) << done.error().message;
  waits.join();
  EXPECT_EQ(joined.value(), "cellar");
  EXPECT_FALSE(join_site(path("cellar"), invitation, "cellar")) << "it has a site";
  // The new member is believed, and believes.
  const auto node = start_node("one");
  EXPECT_TRUE(PeerLink::dial(*open_site(path("cellar")).value(), address_of(*node), kPatience));
  for (const std::string& text :
       std::vector<std::string>{"", "x", "host:1", "host:1/abc/def", "/" + std::string(64, 'a') + "/b"})
    EXPECT_FALSE(parse_invitation(text)) << text;
}

}  // namespace
}  // namespace hearth::cluster
