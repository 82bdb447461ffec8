// For tests of machines of a site over real connections: owners and nodes in this process, on addresses of this machine.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "cluster/pack_part.h"
#include "cluster/remote_chain.h"
#include "cluster/site.h"
#include "engine/engine.h"
#include "model/golden_models.h"
#include "model/model.h"
#include "support/test_folder.h"

namespace hearth::cluster {

inline constexpr int kContext = 192;
inline constexpr std::chrono::milliseconds kPatience{10'000};

// Before its n-th step something happens.
class Eventful final : public Chain {
 public:
  Eventful(std::shared_ptr<Chain> chain, std::function<void(int)> before)
      : chain_(std::move(chain)), before_(std::move(before)) {}
  const DecoderConfig& config() const override { return chain_->config(); }
  Result<void> start(const SequenceOptions& sequences, int context) override {
    return chain_->start(sequences, context);
  }
  int depth() const override { return chain_->depth(); }
  Result<Ran> post(std::span<const SequenceOp> ops, std::span<const SequenceRows> rows,
                   std::span<float> stream) override {
    before_(++steps_);
    return chain_->post(ops, rows, stream);
  }
  Result<Ran> collect() override { return chain_->collect(); }

 private:
  std::shared_ptr<Chain> chain_;
  std::function<void(int)> before_;
  int steps_ = 0;
};

class Nodes : public testing::Test {
 protected:
  Nodes() {
    EXPECT_TRUE(make_site(path("site"), "owner"));
    tls_ = open_site(path("site")).value();
    const Checkpoint original = open_checkpoint(kGoldenFolder / "llama/model.gguf").value();
    EXPECT_TRUE(write_pack(original, pack(), 1));
  }
  [[nodiscard]] std::filesystem::path path(const std::string& name) const { return folder_.path() / name; }
  [[nodiscard]] std::filesystem::path pack() const { return path("model.pack"); }

  std::unique_ptr<Node> start_node(const std::string& name, bool has_model = true,
                                   const std::string& listen = "127.0.0.1:0") {
    NodeOptions options;
    options.listen = parse_listen_address(listen).value();
    options.tls = tls_;
    options.backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
    options.open_model = [this, name, has_model](const Assign& assignment, const PackSources& sources) {
      return has_model ? open_checkpoint(pack()) : open_pack_part(path(name), assignment, sources);
    };
    options.read_piece = [this, name](const Want& want) { return read_pack_part(path(name), want); };
    return Node::start(std::move(options)).value();
  }
  static ListenAddress address_of(const Node& node) {
    return parse_listen_address(fmt::format("127.0.0.1:{}", node.port())).value();
  }

  // `plan` over these addresses; without any the model is whole. `before`: of each step of the chain.
  std::unique_ptr<Engine> make_engine(std::vector<ListenAddress> nodes, ChainPlan plan,
                                      std::function<void(int)> before = {}) {
    std::shared_ptr<Backend> backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
    DecoderOptions decoder{.context = kContext, .rows_max = 0, .progress = {}};
    EngineOptions options{.parallel = 3};
    if (!nodes.empty()) {
      decoder.layers = LayerRange{0, 0};
      RemoteChainOptions chain{
          .tls = tls_, .nodes = std::move(nodes), .plan = std::move(plan), .timing = {.silence = Time(60'000)}};
      options.chain = RemoteChain::create(std::move(chain), pack(), backend).value();
      if (before) options.chain = std::make_shared<Eventful>(options.chain, std::move(before));
    }
    return Engine::create(load_model(pack(), backend, decoder).value(), options).value();
  }

  // Three answers at once.
  static std::vector<std::vector<Token>> answers(Engine& engine) {
    std::vector<std::unique_ptr<Stream>> streams;
    for (int i = 0; i < 3; ++i) {
      Request request;
      request.prompt = encode_prompt(*engine.model().text.tokenizer,
                                     "THE SEA IS WIDE, THE SHIP IS SMALL " + std::string(static_cast<size_t>(i), 'A'));
      request.sampling.temperature = i == 0 ? 0.0f : 0.8f;
      request.sampling.seed = 5;
      request.max_tokens = 60;
      request.ignore_eos = true;
      streams.push_back(engine.submit(std::move(request)).value());
    }
    std::vector<std::vector<Token>> all(3);
    for (size_t i = 0; i < 3; ++i)
      for (hearth::Piece piece; !piece.done;) {
        piece = streams[i]->next();
        all[i].insert(all[i].end(), piece.tokens.begin(), piece.tokens.end());
      }
    return all;
  }

  TestFolder folder_;
  std::shared_ptr<SiteTls> tls_;
};

}  // namespace hearth::cluster
