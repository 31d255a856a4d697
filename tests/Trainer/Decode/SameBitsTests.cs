using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Decode;

/// <summary>
/// A completion depends on its own request alone. The model is made so that a last bit decides: the rows of its head differ by a few units in the last
/// place of a logit, so the largest of them is a hash of the hidden state, and the next token carries it on.
/// </summary>
public sealed class SameBitsTests : IDisposable
{
    private const double RowNoise = 1.0 / (1 << 22);

    private readonly CpuStream _stream = new(1);
    private readonly ParameterSet<float> _weights;
    private readonly Qwen2<float> _model;
    private readonly List<DecodeRequest> _requests = [];
    private readonly Completion[] _alone;

    public SameBitsTests()
    {
        _weights = StoryModel.Random(StoryModel.Config with { NumHiddenLayers = 2 }, seed: 3);
        _model = new Qwen2<float>(_weights);
        var head = _weights.ByName.Single(p => p.Parameter.Name == "lm_head.weight").Tensor;
        for (var row = 1; row < head.Shape[0]; row++)
        {
            for (var i = 0; i < head.Row(row).Length; i++)
            {
                head.Row(row)[i] = (float)(head.Row(0)[i] + (head.Row(row)[i] * RowNoise));
            }
        }

        // Prompts that begin alike and end differently, some the same, one long; greedy and drawn.
        var random = new Random(5);
        int[] common = Tokens(random, 70);
        foreach (var (shared, own) in ((int, int)[])[(70, 9), (0, 5), (70, 9), (33, 40), (0, 300), (64, 1), (70, 10), (0, 1), (16, 50), (70, 9)])
        {
            _requests.Add(new DecodeRequest
            {
                Prompt = [.. common[..shared], .. Tokens(random, own)], Options = new GenerateOptions(30 + (7 * (_requests.Count % 3)), [], []),
                Sampling = _requests.Count % 4 == 3 ? new Sampling(0.8f, 0.9f, 50, (ulong)_requests.Count) : Sampling.Greedy,
            });
        }

        _requests[9] = _requests[2] with { Sampling = new Sampling(1, 1, 0, 9) };
        _alone = [.. _requests.Select(request => Run(new() { Slots = 1, SharePrefixes = false, Capacity = 400 }, [request], out _)[0])];
    }

    public void Dispose()
    {
        _weights.Dispose();
        _stream.Dispose();
    }

    [Fact]
    public void The_model_hashes_its_bits()
    {
        Assert.True(_alone[0].Tokens.Distinct().Count() > 20, string.Join(' ', _alone[0].Tokens));

        // One weight, one unit in its last place.
        ref var weight = ref _weights.ByName.Single(p => p.Parameter.Name == "model.layers.0.mlp.down_proj.weight").Tensor.Span[0];
        weight = MathF.BitIncrement(weight);
        Assert.NotEqual(_alone[0].Tokens, Run(new() { Slots = 1, Capacity = 400 }, [_requests[0]], out _)[0].Tokens);
    }

    [Theory]
    [InlineData(2, false, 0, 16)]
    [InlineData(10, false, 0, 16)]
    [InlineData(10, true, 0, 16)]
    [InlineData(3, true, 0, 4)]
    [InlineData(10, true, 448, 16)]          // pages run out
    [InlineData(10, false, 600, 8)]
    [InlineData(10, true, 440, 2)]
    public void A_completion_does_not_depend_on_the_others(int slots, bool share, int cacheTokens, int pageTokens)
    {
        var completions = Run(new() { Slots = slots, SharePrefixes = share, Capacity = 400, CacheTokens = cacheTokens, PageTokens = pageTokens }, _requests, out var stats);
        for (var i = 0; i < _requests.Count; i++)
        {
            Assert.Equal(_alone[i].Tokens, completions[i].Tokens);
        }

        Assert.Equal(cacheTokens > 0, stats.Preempted > 0);
        Assert.Equal(share, stats.CachedTokens > 0);
    }

    private static int[] Tokens(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => random.Next(StoryModel.Config.VocabSize))];

    private Completion[] Run(DecodeEngineOptions options, List<DecodeRequest> requests, out DecodeStats stats)
    {
        using var engine = new PagedEngine<float>(_stream, _model, null, options);
        var completions = engine.Generate(requests, null, TestContext.Current.CancellationToken);
        stats = engine.Stats;
        return completions;
    }
}
