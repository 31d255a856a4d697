using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>
/// Training on 1 to 5 ranks under every strategy. A step has 8 samples in some five micro-batches of 48 tokens, so that the last round leaves
/// ranks idle; an epoch ends within the run with a smaller step.
/// </summary>
public sealed class ShardedTrainingTests
{
    private const int Steps = 6;

    private static readonly OptimizeRecipe s_recipe = TrainLoopTests.Recipe() with { MicroBatchTokens = 48 };

    /// <summary>Strategy, reduction per micro-batch, ranks, size of a shard group.</summary>
    public static TheoryData<ShardStrategy, bool, int, int> Spread
    {
        get
        {
            var data = new TheoryData<ShardStrategy, bool, int, int>();
            foreach (var ranks in (int[])[1, 2, 3, 4])
            {
                data.Add(ShardStrategy.None, false, ranks, 0);
                data.Add(ShardStrategy.Zero1, false, ranks, 0);
                data.Add(ShardStrategy.Zero2, true, ranks, 0);
                data.Add(ShardStrategy.Fsdp, false, ranks, 0);
                data.Add(ShardStrategy.Fsdp, true, ranks, 0);
            }

            data.Add(ShardStrategy.Hybrid, false, 4, 2);
            data.Add(ShardStrategy.Hybrid, true, 4, 2);
            data.Add(ShardStrategy.Hybrid, true, 3, 1);
            data.Add(ShardStrategy.Fsdp, true, 5, 0);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Spread))]
    public void Ordered_is_bit_equal_for_any_number_of_ranks_and_any_strategy(ShardStrategy strategy, bool perMicroBatch, int ranks, int shardSize)
    {
        Same<float>("a_tied", reduceBf16: false);
        Same<BFloat16>("b_untied", reduceBf16: false);
        Same<BFloat16>("a_tied", reduceBf16: true);

        void Same<T>(string model, bool reduceBf16)
            where T : unmanaged
        {
            var recipe = s_recipe with { StochasticRounding = reduceBf16 };
            var one = OrderedAlone<T>.Of(model, reduceBf16, recipe);
            var many = ShardedRun.Of<T>(
                model, ranks, new ParallelRecipe(strategy, shardSize, Ordered: true, perMicroBatch, reduceBf16), recipe, Steps);
            Assert.Equal(one.Steps.Select(ShardedRun.Untimed), many.Steps.Select(ShardedRun.Untimed));
            foreach (var (name, values) in one.Master)
            {
                Assert.True(values.AsSpan().SequenceEqual(many.Master[name]), $"{name} of the master");
                Assert.True(one.Weights[name].AsSpan().SequenceEqual(many.Weights[name]), $"{name} of the weights");
            }
        }
    }

    private static class OrderedAlone<T>
        where T : unmanaged
    {
        private static readonly Dictionary<string, ShardedResult> s_known = [];

        public static ShardedResult Of(string model, bool reduceBf16, OptimizeRecipe recipe)
        {
            lock (s_known)
            {
                var key = $"{model} {reduceBf16}";
                if (!s_known.TryGetValue(key, out var result))
                {
                    s_known[key] = result = ShardedRun.Of<T>(model, 1, new ParallelRecipe(Ordered: true, ReduceBf16: reduceBf16), recipe, Steps);
                }

                return result;
            }
        }
    }
}
