// An output head on another machine: the same tokens, whatever becomes of that machine.
#include "cluster/remote_head.h"

#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <thread>

#include "cluster/frame_link.h"
#include "cluster/test_nodes.h"
#include "model/arch/all.h"
#include "text/grammar.h"

namespace hearth::cluster {
namespace {

// Before it is asked the n-th time something happens.
class EventfulHead final : public OutputHead {
 public:
  EventfulHead(std::shared_ptr<OutputHead> head, std::function<void(int)> before)
      : head_(std::move(head)), before_(std::move(before)) {}
  Result<void> most_likely(std::span<const float> rows, int count, std::span<int32_t> tokens,
                           std::span<float> logits) override {
    before_(++asked_);
    return head_->most_likely(rows, count, tokens, logits);
  }
  Result<void> logits(std::span<const float> rows, std::span<float> out) override {
    before_(++asked_);
    return head_->logits(rows, out);
  }

 private:
  std::shared_ptr<OutputHead> head_;
  std::function<void(int)> before_;
  int asked_ = 0;
};

// All that an engine says about a request.
struct Told {
  std::vector<Token> tokens, alternatives;
  std::vector<float> numbers;
  bool operator==(const Told&) const = default;
  friend void PrintTo(const Told& told, std::ostream* out) {
    *out << testing::PrintToString(told.tokens) << " " << testing::PrintToString(told.alternatives) << " "
         << testing::PrintToString(told.numbers);
  }
};

class RemoteHeads : public Nodes {
 protected:
  std::filesystem::path pack_of(const std::string& family) {
    const auto path = this->path(family + ".pack");
    EXPECT_TRUE(write_pack(open_checkpoint(kGoldenFolder / family / "model.gguf").value(), path, 1));
    return path;
  }
  std::shared_ptr<RemoteHead> head_at(const ListenAddress& address, const std::filesystem::path& pack) {
    const Checkpoint checkpoint = open_checkpoint(pack).value();
    const auto tensor = checkpoint.find_tensor("token_embd.weight");
    // A machine that lives is not given up because this one is busy.
    return RemoteHead::create({.tls = tls_,
                               .node = address,
                               .patience = std::chrono::milliseconds(patient_ ? 60'000 : 300),
                               .pause = std::chrono::milliseconds(1),
                               .pause_max = std::chrono::milliseconds(4)},
                              pack, tensor->shape[0], tensor->shape[1])
        .value();
  }
  std::unique_ptr<Engine> engine(const std::filesystem::path& pack, std::shared_ptr<OutputHead> head,
                                 const std::vector<ListenAddress>& stages = {}) {
    std::shared_ptr<Backend> backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
    DecoderOptions decoder{.context = kContext, .rows_max = 0, .progress = {}};
    EngineOptions options{.parallel = 5, .head = std::move(head)};
    if (!stages.empty()) {
      decoder.layers = LayerRange{0, 0};
      const Checkpoint checkpoint = open_checkpoint(pack).value();
      const int n_layers = find_family(checkpoint).value()->configure(ModelKeys(checkpoint)).value().n_layers();
      options.chain = RemoteChain::create({.tls = tls_,
                                           .nodes = stages,
                                           .plan = even_plan(0, n_layers, static_cast<int>(stages.size())),
                                           .timing = {.silence = Time(60'000)}},
                                          pack, backend)
                          .value();
    }
    return Engine::create(load_model(pack, backend, decoder).value(), options).value();
  }

  // Greedy, sampled, from a grammar, with log probabilities, and candidates: all at once, or the first ones.
  static std::vector<Told> ask(Engine& engine, size_t first = 5) {
    const Tokenizer& tokenizer = *engine.model().text.tokenizer;
    std::vector<Request> requests(5);
    for (size_t i = 0; i < requests.size(); ++i) {
      requests[i].prompt = encode_prompt(tokenizer, "THE SEA IS WIDE, THE SHIP IS SMALL " + std::string(i, 'A'));
      requests[i].sampling = {.temperature = i == 0 ? 0.0f : 0.8f, .seed = 5};
      requests[i].max_tokens = 25;
      requests[i].ignore_eos = i != 2;
    }
    requests[2].grammar = Grammar::from_gbnf(R"(root ::= ("AB" | "CD" [0-9]+ ",")+ "END")").value();
    requests[3].logprobs = 3, requests[3].prompt_logprobs = true;
    requests[4].candidates = {encode_prompt(tokenizer, "OPEN THE GATE"), encode_prompt(tokenizer, "CLOSE")};
    requests.resize(first);
    std::vector<std::unique_ptr<Stream>> streams;
    for (Request& request : requests) streams.push_back(engine.submit(std::move(request)).value());
    std::vector<Told> all(streams.size());
    for (size_t i = 0; i < streams.size(); ++i)
      for (hearth::Piece piece; !piece.done;) {
        piece = streams[i]->next();
        all[i].tokens.insert(all[i].tokens.end(), piece.tokens.begin(), piece.tokens.end());
        for (const TokenLogprob& logprob : piece.logprobs) {
          all[i].numbers.push_back(logprob.logprob);
          for (const auto& [token, value] : logprob.top)
            all[i].alternatives.push_back(token), all[i].numbers.push_back(value);
        }
        for (const double score : piece.scores) all[i].numbers.push_back(static_cast<float>(score));
      }
    return all;
  }

  bool patient_ = true;
};

TEST_F(RemoteHeads, AnswersAreThoseOfOneMachine) {
  // Heads that are the embedding and others; logits that are scaled, or capped; another name of the last norm.
  for (const char* family : {"llama", "gemma2", "granite", "lfm2"}) {
    const auto pack = pack_of(family);
    const auto whole = ask(*engine(pack, nullptr));
    ASSERT_GT(whole[3].numbers.size(), 75u);
    ASSERT_EQ(whole[4].numbers.size(), 2u);
    const auto node = start_node("fetches", false), stage = start_node("runs layers", false);
    const auto head = head_at(address_of(*node), pack);
    EXPECT_EQ(ask(*engine(pack, head)), whole) << family;
    const uint64_t rows = head->rows_answered();
    EXPECT_GT(rows, 100u);
    EXPECT_EQ(ask(*engine(pack, head, {address_of(*stage)})), whole) << family << " with its layers elsewhere, too";
    EXPECT_GT(head->rows_answered(), rows);
    EXPECT_EQ(ask(*engine(pack, head, {address_of(*node)})), whole) << family << " all on the same machine";
    EXPECT_EQ(head->losses(), 0u);
    EXPECT_GT(node->stats().head_answers, 0u);
    EXPECT_EQ(node->stats().refused, 0u);
    std::filesystem::remove_all(path("fetches")), std::filesystem::remove_all(path("runs layers"));
  }
}

TEST_F(RemoteHeads, ALostMachineChangesNothingAndIsUsedAgain) {
  const auto whole = ask(*engine(pack(), nullptr));
  auto node = start_node("one");
  const ListenAddress address = address_of(*node);
  const auto head = head_at(address, pack());
  const auto answers = engine(pack(), std::make_shared<EventfulHead>(head, [&](int asked) {
                                if (asked == 20) node.reset();
                              }));
  EXPECT_EQ(ask(*answers), whole);
  const uint64_t rows = head->rows_answered();
  EXPECT_GT(rows, 0u);
  EXPECT_GT(head->losses(), 0u);
  EXPECT_EQ(ask(*answers), whole) << "and without it";
  node = start_node("one", true, address.text);
  for (int i = 0; i < 1000 && head->rows_answered() == rows; ++i) EXPECT_EQ(ask(*answers), whole);
  EXPECT_GT(head->rows_answered(), rows) << "it came back";
}

TEST_F(RemoteHeads, AMachineThatIsNotThereOrLeavesIsDoneWithout) {
  const auto whole = ask(*engine(pack(), nullptr));
  const auto nobody = head_at(parse_listen_address("127.0.0.1:1").value(), pack());
  EXPECT_EQ(ask(*engine(pack(), nobody)), whole);
  EXPECT_EQ(nobody->rows_answered(), 0u);
  const auto node = start_node("one");
  const auto head = head_at(address_of(*node), pack());
  const auto answers = engine(pack(), head);
  EXPECT_EQ(ask(*answers), whole);
  const uint64_t rows = head->rows_answered();
  EXPECT_GT(rows, 0u);
  node->leave(std::chrono::hours(1));  // nobody's layers are here
  node->set_away(true);
  EXPECT_EQ(ask(*answers), whole);
  EXPECT_GT(head->losses(), 0u);
}

// Says Ready to whoever assigns it a head, and answers rows with what `lie` makes of it; nothing if that is none.
class Liar {
 public:
  Liar(std::shared_ptr<SiteTls> tls, std::function<std::optional<Message>(const HeadRows&)> lie)
      : tls_(std::move(tls)),
        lie_(std::move(lie)),
        listener_(PeerListener::listen(parse_listen_address("127.0.0.1:0").value()).value()),
        thread_([this](const std::stop_token& stop) {
          while (!stop.stop_requested())
            if (auto accepted = listener_->accept(std::chrono::milliseconds(5)); accepted && *accepted)
              serve(stop, std::move(*accepted)), ++n_ended_;
        }) {}
  [[nodiscard]] ListenAddress address() const {
    return parse_listen_address(fmt::format("127.0.0.1:{}", listener_->port())).value();
  }

  [[nodiscard]] int ended() const { return n_ended_; }

 private:
  void serve(const std::stop_token& stop, Descriptor accepted) const {
    const auto link = PeerListener::shake_hands(*tls_, std::move(accepted), kPatience);
    FrameReader reader;
    while (link && !stop.stop_requested()) {
      const auto frame = next_frame(**link, reader, std::chrono::milliseconds(5));
      if (!frame && !frame.error().message.contains("says nothing")) return;
      if (frame && std::holds_alternative<Assign>(frame->message))
        (void)(*link)->send_all(to_bytes({1, 0, Ready{}}), kPatience);
      const auto* rows = frame ? std::get_if<HeadRows>(&frame->message) : nullptr;
      const auto said = rows ? lie_(*rows) : std::nullopt;
      if (said) (void)(*link)->send_all(to_bytes({1, frame->step, *said}), kPatience);
    }
  }

  std::shared_ptr<SiteTls> tls_;
  std::function<std::optional<Message>(const HeadRows&)> lie_;
  std::unique_ptr<PeerListener> listener_;
  std::atomic<int> n_ended_{0};  // connections
  std::jthread thread_;
};

TEST_F(RemoteHeads, WhatCannotBeAnAnswerIsRefused) {
  const auto whole = ask(*engine(pack(), nullptr));
  const auto answer = [](const HeadRows& rows, size_t extra, int32_t first, float step) {
    const size_t n = rows.hidden.size() / 32 * (rows.count > 0 ? rows.count : 64) + extra;
    HeadAnswer made;
    for (size_t i = 0; i < n; ++i) {
      if (rows.count > 0) made.tokens.push_back(first + static_cast<int32_t>(i % rows.count));
      made.logits.push_back(step * static_cast<float>(i));
    }
    return made;
  };
  const std::vector<std::function<std::optional<Message>(const HeadRows&)>> lies{
      [](const HeadRows&) { return HeadAnswer{}; },
      [&](const HeadRows& rows) { return answer(rows, 1, 0, -1); },
      [&](const HeadRows& rows) { return answer(rows, rows.count > 0 ? 0 : 7, 1 << 20, -1); },
      [&](const HeadRows& rows) { return answer(rows, rows.count > 1 ? 0 : 7, 0, 1); },
      [&](const HeadRows& rows) { return answer(rows, 0, 0, std::numeric_limits<float>::quiet_NaN()); },
      [](const HeadRows&) { return Pong{}; },
      [](const HeadRows&) { return Failure{Failure::Of::kMachine, "too hot"}; },
      [](const HeadRows&) { return std::optional<Message>(); },
  };
  patient_ = false;
  for (size_t i = 0; i < lies.size(); ++i) {
    const Liar liar(tls_, lies[i]);
    const auto head = head_at(liar.address(), pack());
    const auto answers = engine(pack(), head);
    EXPECT_EQ(ask(*answers, 3), std::vector(whole.begin(), whole.begin() + 3)) << i << ": the most likely tokens";
    EXPECT_GT(head->losses(), 0u) << i;
    EXPECT_EQ(ask(*answers), whole) << i << ": and all logits";
    EXPECT_EQ(head->rows_answered(), 0u) << i;
    for (int tries = 0; tries < 5000 && liar.ended() == 0; ++tries)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_GT(liar.ended(), 0) << i << ": it is hung up on";
  }
}

TEST_F(RemoteHeads, AMachineRefusesRowsThatCannotBe) {
  const auto node = start_node("one");
  const auto link = PeerLink::dial(*tls_, address_of(*node), kPatience).value();
  FrameReader reader;
  const auto says = [&](const Message& message) {
    EXPECT_TRUE(link->send_all(to_bytes({1, 9, message}), kPatience));
    return next_frame(*link, reader, kPatience).value();
  };
  EXPECT_TRUE(link->send_all(to_bytes({1, 0, Hello{LinkClass::kControl, {std::byte{3}}}}), kPatience));
  const HeadRows row{.count = 2, .hidden = std::vector<float>(32, 1.0f)};
  EXPECT_TRUE(std::holds_alternative<Failure>(says(row).message)) << "no head was assigned";
  const Checkpoint checkpoint = open_checkpoint(pack()).value();
  const Assign assign{.kind = Assign::Kind::kHead,
                      .model = pack_source(checkpoint.files().front().bytes()).value(),
                      .pack_bytes = checkpoint.file_bytes(),
                      .next = ""};
  EXPECT_TRUE(std::holds_alternative<Ready>(says(assign).message));
  const Frame answer = says(row);
  EXPECT_EQ(answer.step, 9u);
  EXPECT_EQ(std::get<HeadAnswer>(answer.message).tokens.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<Failure>(says(HeadRows{.count = 2, .hidden = {}}).message)) << "no row";
  EXPECT_TRUE(std::holds_alternative<Failure>(says(HeadRows{2, std::vector<float>(33)}).message)) << "a part of a row";
  EXPECT_TRUE(std::holds_alternative<Failure>(says(HeadRows{2, std::vector<float>(32 * 33)}).message)) << "33 rows";
  EXPECT_TRUE(std::holds_alternative<Failure>(says(HeadRows{65, row.hidden}).message)) << "more than there are";
  const HeadRows none{.count = 2, .hidden = std::vector<float>(64, std::numeric_limits<float>::quiet_NaN())};
  EXPECT_EQ(std::get<HeadAnswer>(says(none).message).tokens.size(), 4u) << "numbers that are none are numbers";
  EXPECT_TRUE(std::holds_alternative<HeadAnswer>(says(row).message)) << "and goes on";
}

}  // namespace
}  // namespace hearth::cluster
