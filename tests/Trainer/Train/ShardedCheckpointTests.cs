using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Trainer.Checkpoints;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>Training that is saved by some ranks and goes on with others, and exports of sharded weights.</summary>
public sealed class ShardedCheckpointTests : IDisposable
{
    private static readonly ShardStrategy[] s_strategies =
        [ShardStrategy.None, ShardStrategy.Zero1, ShardStrategy.Zero2, ShardStrategy.Fsdp, ShardStrategy.Hybrid];

    /// <summary>Four steps of one rank that nothing interrupts.</summary>
    private static readonly Lazy<Dictionary<(string, string), long[]>> s_whole = new(() => Union(RankBench<BFloat16>.Run(1, world =>
    {
        using var bench = new RankBench<BFloat16>(world, Ordered(ShardStrategy.None));
        bench.Steps(4);
        return bench.Bits();
    })));

    /// <summary>The files of one rank's export.</summary>
    private static readonly Lazy<List<string>> s_export = new(() =>
    {
        using var folder = new TemporaryFolder();
        return Export(ShardStrategy.None, 1, folder["one"]);
    });

    private readonly TemporaryFolder _folder = new();

    /// <summary>Every strategy at every size from 1 to 4; hybrid with groups of two, where they divide.</summary>
    public static TheoryData<ShardStrategy, int> Worlds =>
        [.. from s in s_strategies from n in Enumerable.Range(1, 4) where s != ShardStrategy.Hybrid || n % 2 == 0 select (s, n)];

    public void Dispose() => _folder.Dispose();

    [Theory, MemberData(nameof(Worlds))]
    public void Steps_saved_by_one_world_go_on_in_any_other_to_the_same_bits(ShardStrategy strategy, int ranks)
    {
        // reduce: ordered makes training itself bit-equal for any ranks, so that what is left is the checkpoint
        var index = Array.IndexOf(s_strategies, strategy) + ranks;
        var progress = RankBench<BFloat16>.Run(ranks, world =>
        {
            using var bench = new RankBench<BFloat16>(world, Ordered(strategy));
            using var writer = bench.Writer(Store(), asynchronous: index % 2 == 0);
            bench.Steps(2);
            TrainCheckpoint.Begin(writer, bench.Loop.Progress);
            var saved = bench.Loop.Progress;
            bench.Steps(1);                  // beside the writing; not in the checkpoint
            writer.Complete();
            return saved;
        });
        for (var i = 0; i < 2; i++)
        {
            // a round trip through every strategy and several sizes, another choice for each case
            var to = s_strategies[(index + i) % s_strategies.Length];
            var size = to == ShardStrategy.Hybrid ? 2 + (2 * (i % 2)) : 1 + ((index + i) % 4);
            var bits = RankBench<BFloat16>.Run(size, world =>
            {
                using var bench = new RankBench<BFloat16>(world, Ordered(to));
                var loaded = TrainCheckpoint.Load(Store().FindNewest(world)!, bench.Optimizer, bench.Stream);
                Assert.Equal(progress[0].ToJson(), loaded.ToJson());
                bench.Start(loaded);
                bench.Steps(2);
                return bench.Bits();
            });
            Same(s_whole.Value, bits);
        }
    }

    [Theory, MemberData(nameof(Worlds))]
    public void What_is_loaded_is_what_was_saved(ShardStrategy strategy, int ranks)
    {
        foreach (var asynchronous in (bool[])[true, false])
        {
            Directory.CreateDirectory(_folder["run"]);
            Directory.Delete(_folder["run"], recursive: true);
            var saved = RankBench<float>.Run(ranks, world =>
            {
                using var bench = new RankBench<float>(world, new ParallelRecipe(strategy));
                using var writer = bench.Writer(Store(), asynchronous);
                bench.Steps(2);
                TrainCheckpoint.Begin(writer, bench.Loop.Progress);
                writer.Complete();
                return bench.Bits();
            });
            var whole = Union(saved);
            Assert.Equal(3 * RankBench<float>.Config.Count(), whole.Values.Sum(v => v.Length));
            foreach (var (to, size) in new[] { (ShardStrategy.Fsdp, 3), (ShardStrategy.None, 2), (ShardStrategy.Hybrid, 4) })
            {
                Same(whole, RankBench<float>.Run(size, world =>
                {
                    using var bench = new RankBench<float>(world, new ParallelRecipe(to));
                    TrainCheckpoint.Load(Store().FindNewest(world)!, bench.Optimizer, bench.Stream);
                    return bench.Bits();
                }));
            }
        }
    }

    [Theory, MemberData(nameof(Worlds))]
    public void An_export_of_any_world_is_the_export_of_one(ShardStrategy strategy, int ranks)
    {
        Assert.Equal(s_export.Value, Export(strategy, ranks, _folder["many"]));
        using var model = HfDirectory.Open(_folder["many"]);
        Assert.Equal(RankBench<float>.Config.Fingerprint, model.Config.Fingerprint);
    }

    [Fact]
    public void An_export_that_cannot_be_written_ends_on_every_rank_in_a_sentence()
    {
        _folder.Write("taken", "a file");
        RankBench<BFloat16>.Run(3, world =>
        {
            using var bench = new RankBench<BFloat16>(world, new ParallelRecipe(ShardStrategy.Fsdp));
            var e = Assert.Throws<InvalidInputException>(() => ModelExport.Save(_folder["taken"], bench.Optimizer, bench.Stream, SafetensorDtype.BF16, null, [7]));
            Assert.Contains(world.Rank == 0 ? "is not a model directory" : "rank 0 could not write the model", e.Message);
            return 0;
        });
    }

    [Fact]
    public void A_checkpoint_of_another_model_is_refused()
    {
        RankBench<BFloat16>.Run(2, world =>
        {
            using var bench = new RankBench<BFloat16>(world, new ParallelRecipe(ShardStrategy.Fsdp));
            using var writer = bench.Writer(Store(), asynchronous: true);
            TrainCheckpoint.Begin(writer, bench.Loop.Progress);
            writer.Complete();
            using var other = new Optimizer<BFloat16>(
                new(RankBench<float>.Config with { NumHiddenLayers = 2 }), default, decayAll: false, bench.Optimizer.Parallelism, bench.Stream);
            other.Allocate();
            var e = Assert.Throws<InvalidInputException>(() => TrainCheckpoint.Load(Store().FindNewest(world)!, other, bench.Stream));
            Assert.Contains("another model", e.Message);
            return 0;
        });
    }

    private static ParallelRecipe Ordered(ShardStrategy strategy) => new(strategy, Ordered: true);

    private static List<string> Export(ShardStrategy strategy, int ranks, string folder)
    {
        RankBench<BFloat16>.Run(ranks, world =>
        {
            using var bench = new RankBench<BFloat16>(world, Ordered(strategy));
            bench.Steps(1);
            var largest = bench.Optimizer.Arenas.Sum(a => a.Bytes);
            ModelExport.Save(folder, bench.Optimizer, bench.Stream, SafetensorDtype.BF16, null, [7], maxShardBytes: 9000);
            Assert.Equal(largest, bench.Optimizer.Arenas.Sum(a => a.Bytes));

            // training goes on as if nothing had been exported
            bench.Steps(1);
            return 0;
        });
        Assert.True(Directory.GetFiles(folder, "*.safetensors").Length > 2);
        return [.. Directory.GetFiles(folder).Order(StringComparer.Ordinal).Select(f => Path.GetFileName(f) + Convert.ToHexString(File.ReadAllBytes(f)))];
    }

    /// <summary>What all ranks hold, which must be every element of every parameter; replicas must agree.</summary>
    private static Dictionary<(string, string), long[]> Union(List<(string Role, string Parameter, long Start, long Count, int[] Bits)>[] ranks)
    {
        const long Missing = long.MinValue;
        var union = new Dictionary<(string, string), long[]>();
        foreach (var (role, parameter, start, count, bits) in ranks.SelectMany(r => r))
        {
            if (!union.TryGetValue((role, parameter), out var whole))
            {
                union[(role, parameter)] = whole = new long[count];
                Array.Fill(whole, Missing);
            }

            for (var i = 0; i < bits.Length; i++)
            {
                ref var element = ref whole[start + i];
                if (element != Missing && element != bits[i])
                {
                    Assert.Fail($"{role} of {parameter}: replicas differ in element {start + i}");
                }

                element = bits[i];
            }
        }

        Assert.All(union, p => Assert.True(Array.IndexOf(p.Value, Missing) < 0, $"no rank holds all of {p.Key}"));
        return union;
    }

    private static void Same(Dictionary<(string, string), long[]> expected, List<(string Role, string Parameter, long Start, long Count, int[] Bits)>[] ranks)
    {
        var actual = Union(ranks);
        Assert.Equal(expected.Count, actual.Count);
        Assert.All(expected, p => Assert.True(p.Value.AsSpan().SequenceEqual(actual[p.Key]), $"{p.Key} differs"));
    }

    private CheckpointStore Store() => new(_folder["run"]);
}

file static class ConfigCount
{
    public static long Count(this Z1Coder.Trainer.Model.Qwen2Config config) => new Z1Coder.Trainer.Model.Qwen2Parameters(config).Count;
}
