using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Model;

/// <summary>Flat units, windows and shards: where each element of each parameter lies, and that parts are filled as the whole is.</summary>
public sealed class ShardSetTests
{
    // odd extents, so that parts of blocks begin at odd elements
    private static readonly Qwen2Config s_config = new()
    {
        ModelType = "qwen2", HiddenSize = 45, NumHiddenLayers = 3, NumAttentionHeads = 3, NumKeyValueHeads = 1, HeadDim = 6, IntermediateSize = 51,
        VocabSize = 97, MaxPositionEmbeddings = 64, RmsNormEps = 1e-6, RopeTheta = 1e4, TieWordEmbeddings = false, AttentionBias = true,
    };

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(64)]
    public void Shards_hold_every_element_once_and_random_weights_are_those_of_the_whole(int shards)
    {
        var parameters = new Qwen2Parameters(s_config);
        using var whole = new ParameterSet<float>("whole", parameters);
        whole.Arena.Allocate();
        RandomWeights.Fill(whole, 7, 0.02);
        var expected = whole.ByName.ToDictionary(p => p.Parameter.Name, p => p.Tensor.Span.ToArray());
        var seen = expected.ToDictionary(p => p.Key, p => new int[p.Value.Length]);
        var layout = new ShardLayout(parameters, shards);
        for (var s = 0; s < shards; s++)
        {
            using var shard = new ShardSet<float>("shard", layout, s);
            shard.Arena.Allocate();
            RandomWeights.Fill(shard, 7, 0.02);
            foreach (var (parameter, start, tensor) in shard.ByName)
            {
                Assert.True(tensor.Span.SequenceEqual(expected[parameter.Name].AsSpan((int)start, (int)tensor.Count)), $"{parameter.Name} from {start} of shard {s}");
                foreach (ref var count in seen[parameter.Name].AsSpan((int)start, (int)tensor.Count))
                {
                    count++;
                }
            }
        }

        Assert.All(seen, p => Assert.All(p.Value, count => Assert.Equal(1, count)));
    }

    [Fact]
    public void Blocks_are_aligned_units_divide_and_padding_stays_zero()
    {
        var layout = new ShardLayout(new Qwen2Parameters(s_config), 3, split: 2);
        using var set = new ParameterSet<float>("set", layout);
        set.Arena.Allocate();
        foreach (var tensor in set.Tensors)
        {
            tensor.Span.Fill(1);
        }

        for (var u = 0; u < layout.Units.Count; u++)
        {
            var unit = layout.Units[u];
            Assert.Equal(0, unit.Elements % (3 * 2 * ShardLayout.NormChunk));
            Assert.Equal(unit.Elements, set.Units[u].Count);
            var blocks = Enumerable.Range(unit.FirstBlock, unit.BlockCount).ToList();
            Assert.All(blocks, b => Assert.Equal((0, u), (layout.OffsetOf(b) % ShardLayout.BlockAlignment, layout.UnitOf(b))));
            Assert.Equal(blocks.Sum(b => layout.Parameters.Blocks[b].Shape.Count), set.Units[u].Span.ToArray().Count(v => v == 1));   // blocks do not overlap
        }
    }

    [Fact]
    public void Windows_share_memory_between_every_second_layer_and_hold_no_whole()
    {
        var layout = new ShardLayout(new Qwen2Parameters(s_config), 2);
        using var windows = new ParameterSet<float>("windows", layout, windows: true);
        using var whole = new ParameterSet<float>("whole", layout);
        windows.Arena.Allocate();
        Assert.False(windows.IsWhole);
        Assert.Equal([0, 1, 2, 1, 4], Enumerable.Range(0, 5).Select(layout.WindowOf));
        for (var u = 0; u < layout.Units.Count; u++)
        {
            windows.Units[u].Span.Fill(u);
        }

        Assert.Equal([0f, 3f, 2f, 3f, 4f], Enumerable.Range(0, 5).Select(u => windows.Units[u].Span[0]));
        Assert.Equal(whole.Arena.Bytes - windows.Arena.Bytes, 4 * layout.Units[ShardLayout.Layer(2)].Elements);
        Assert.Contains("windows", Assert.Throws<InvalidOperationException>(() => windows.ByName).Message);
        Assert.Throws<ArgumentException>(() => new ShardSet<float>(windows, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => new ShardSet<float>("s", layout, 2));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    public void A_model_directory_is_read_into_shards_as_into_the_whole(int extraRows)
    {
        var directory = Goldens.Model("b_untied");
        var config = Qwen2Config.Load(directory);
        var parameters = new Qwen2Parameters(config with { VocabSize = config.VocabSize + extraRows });
        using var whole = new ParameterSet<float>("whole", parameters);
        whole.Arena.Allocate();
        HfWeights.Load(directory, whole, config.VocabSize - 3);
        var expected = whole.ByName.ToDictionary(p => p.Parameter.Name, p => p.Tensor.Span.ToArray());
        var elements = 0L;
        for (var s = 0; s < 3; s++)
        {
            using var shard = new ShardSet<float>("shard", new ShardLayout(parameters, 3), s);
            shard.Arena.Allocate();
            HfWeights.Load(directory, shard, config.VocabSize - 3);
            foreach (var (parameter, start, tensor) in shard.ByName)
            {
                Assert.True(tensor.Span.SequenceEqual(expected[parameter.Name].AsSpan((int)start, (int)tensor.Count)), $"{parameter.Name} from {start}");
                elements += tensor.Count;
            }
        }

        Assert.Equal(parameters.Count, elements);
    }
}
