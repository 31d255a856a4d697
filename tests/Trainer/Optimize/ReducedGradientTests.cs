using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Tests.Runtime;
using Z1Coder.Tests.Trainer.Train;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Optimize;

/// <summary>
/// The reduced gradients of one step, rank by rank, against the same sums written down here from single micro-batches on one rank. Collectives add
/// in rank order in fp32 and round bf16 once, so nothing is left open: the bits must be equal. Against the exact sum (in double) of the gradients
/// g_i of single micro-batches the distance is bounded by the roundings: a sum of n fp32 numbers in any order is within (n - 1)·u·Σ|g_i| of the
/// exact one, u = 2^-24, to first order; through bf16 every rank's sum and the round's total are rounded once more, each by at most
/// v = 2^-8 of itself: 2·v·Σ|g_i| in all. Where backward adds into the gradients itself, the order within its own products changes too: those are
/// compared with the written-down sums only.
/// </summary>
public sealed class ReducedGradientTests
{
    private static readonly OptimizeRecipe s_recipe = TrainLoopTests.Recipe() with { MicroBatchTokens = 48, BatchSamples = 12, LearningRate = 0 };

    public static TheoryData<ShardStrategy, bool, bool, int, int> Spread
    {
        get
        {
            var data = new TheoryData<ShardStrategy, bool, bool, int, int>();
            foreach (var (strategy, perMicroBatch, ranks, size) in ShardedTrainingTests.Spread.Select(r => r.Data))
            {
                data.Add(strategy, perMicroBatch, false, ranks, size);
                data.Add(strategy, perMicroBatch, true, ranks, size);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Spread))]
    public void They_are_the_sums_that_the_strategy_says(ShardStrategy strategy, bool perMicroBatch, bool bf16, int ranks, int shardSize)
    {
        var parallel = new ParallelRecipe(strategy, shardSize, Ordered: false, perMicroBatch, bf16);
        using var alone = new Alone("a_tied");
        var shards = strategy switch { ShardStrategy.None => 1, ShardStrategy.Hybrid => shardSize, _ => ranks };
        var expected = alone.Expected(ranks, shards, perMicroBatch, bf16);
        Assert.True(ranks == 1 || alone.MicroBatches % ranks != 0 || alone.MicroBatches > ranks, "the step must have two rounds");
        var seen = new bool[expected.Length][];
        Ranks.Run(Ranks.Threads, ranks, world =>
        {
            using var rank = new ShardedRank<float>("a_tied", world, parallel, s_recipe);
            Assert.Equal(alone.MicroBatches, rank.Step()!.Value.MicroBatches);
            for (var u = 0; u < rank.Optimizer.Layout.Units.Count; u++)
            {
                foreach (var piece in rank.Optimizer.Layout.Pieces(u, rank.Optimizer.Shard))
                {
                    var actual = rank.Optimizer.GradientShards[piece].Span;
                    var block = expected[piece.Block].AsSpan(piece.BlockStart, piece.Count);
                    Assert.True(actual.SequenceEqual(block), $"block {piece.Block}, {piece.Count} elements from {piece.BlockStart} on rank {world.Rank}");
                    lock (seen)
                    {
                        (seen[piece.Block] ??= new bool[expected[piece.Block].Length]).AsSpan(piece.BlockStart, piece.Count).Fill(true);
                    }
                }
            }
        });
        Assert.All(seen, block => Assert.True(Array.IndexOf(block, false) < 0));  // every element of every block is on some rank

        if (perMicroBatch)
        {
            var (exact, absolute) = alone.Exact();
            var bound = bf16 ? (2 * Math.ScaleB(1, -8)) + ((alone.MicroBatches + 1) * Math.ScaleB(1, -24)) : (alone.MicroBatches - 1) * Math.ScaleB(1, -24);
            for (var b = 0; b < exact.Length; b++)
            {
                for (var i = 0; i < exact[b].Length; i++)
                {
                    if (!(Math.Abs(expected[b][i] - exact[b][i]) <= 1.01 * bound * absolute[b][i]))
                    {
                        Assert.Fail($"block {b}[{i}]: {expected[b][i]} against {exact[b][i]}");
                    }
                }
            }
        }
    }

    /// <summary>One rank, step 0, its micro-batches one at a time.</summary>
    private sealed class Alone : IDisposable
    {
        private readonly CpuStream _stream = new(1);
        private readonly Optimizer<float> _optimizer;
        private readonly Activations<float> _activations;
        private readonly Qwen2<float> _model;
        private readonly StepPacker _packer;
        private readonly PackedBatch _batch;
        private readonly int _lossTokens;

        public Alone(string name)
        {
            var directory = Goldens.Model(name);
            var config = Qwen2Config.Load(directory);
            _optimizer = new Optimizer<float>(new Qwen2Parameters(config), s_recipe.AdamW, s_recipe.DecayAll);
            _activations = new Activations<float>(config, s_recipe.MicroBatchTokens, s_recipe.HeadRows, s_recipe.Recompute, _stream, training: true);
            _optimizer.Allocate();
            _activations.Allocate();
            HfWeights.Load(directory, _optimizer.Master);
            _model = new Qwen2<float>(_optimizer.Weights);
            var samples = ShardedRun.Data(config.VocabSize);
            var ids = new StepPlan(samples.Count, s_recipe.BatchSamples, seed: 9, s_recipe.LastStep).SamplesOf(0);
            _packer = new StepPacker(s_recipe.MicroBatchTokens, s_recipe.BatchSamples, s_recipe.BatchSamples);
            _batch = new PackedBatch(s_recipe.MicroBatchTokens, s_recipe.BatchSamples);
            MicroBatches = _packer.Pack(samples, ids);
            foreach (var id in ids)
            {
                _lossTokens += samples[id].LossTokens;
            }
        }

        public int MicroBatches { get; }

        /// <summary>By block: sums over the ranks of each shard group, then over the groups.</summary>
        public float[][] Expected(int ranks, int shards, bool perMicroBatch, bool bf16)
        {
            var rounds = (MicroBatches + ranks - 1) / ranks;
            var groups = new List<float[][]>();
            for (var group = 0; group < ranks / shards; group++)
            {
                float[][]? total = null;
                for (var round = 0; round < (perMicroBatch ? rounds : 1); round++)
                {
                    var sums = Enumerable.Range(group * shards, shards).Select(rank => perMicroBatch
                        ? Gradients([(round * ranks) + rank])
                        : Gradients(Enumerable.Range(0, rounds).Select(r => (r * ranks) + rank))).ToList();
                    total = total is null ? Add(sums, bf16) : Add([total, Add(sums, bf16)], bf16: false);
                }

                groups.Add(total!);
            }

            return Add(groups, bf16 && !perMicroBatch);
        }

        /// <summary>Σ g_i and Σ |g_i| in double.</summary>
        public (double[][] Sum, double[][] Absolute) Exact()
        {
            var single = Enumerable.Range(0, MicroBatches).Select(i => Gradients([i])).ToList();
            return (
                [.. single[0].Select((block, b) => block.Select((_, e) => single.Sum(g => (double)g[b][e])).ToArray())],
                [.. single[0].Select((block, b) => block.Select((_, e) => single.Sum(g => Math.Abs((double)g[b][e]))).ToArray())]);
        }

        public void Dispose()
        {
            _optimizer.Dispose();
            _activations.Dispose();
            _stream.Dispose();
        }

        /// <summary>One after another in fp32, what goes in and what comes out rounded to bf16 on request; of one, itself.</summary>
        private static float[][] Add(List<float[][]> addends, bool bf16) =>
            [.. addends[0].Select((block, b) => block.Select((_, e) =>
            {
                var sum = Rounded(addends[0][b][e], bf16);
                foreach (var addend in addends.Skip(1))
                {
                    sum += Rounded(addend[b][e], bf16);
                }

                return Rounded(sum, bf16);
            }).ToArray())];

        private static float Rounded(float value, bool bf16) => bf16 ? (float)(BFloat16)value : value;

        /// <summary>What a rank has after these micro-batches, backward adding into the gradients from the second on; those that do not exist give nothing.</summary>
        private float[][] Gradients(IEnumerable<int> microBatches)
        {
            var any = false;
            foreach (var i in microBatches.Where(i => i < MicroBatches))
            {
                _packer.Fill(i, _batch);
                _batch.Pad(Matmul.RoundRows(_batch.TokenCount));
                _model.ForwardBackward(_stream, _activations, _batch, _optimizer.Gradients, (float)(1.0 / _lossTokens), accumulate: any);
                any = true;
            }

            var blocks = new float[_optimizer.Gradients.Tensors.Length][];
            for (var b = 0; b < blocks.Length; b++)
            {
                blocks[b] = any ? _optimizer.Gradients.Tensors[b].Span.ToArray() : new float[_optimizer.Gradients.Tensors[b].Count];
            }

            return blocks;
        }
    }
}
