using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Optimize;

/// <summary>
/// The sum of a step in the order of its micro-batches, left to right in fp32, for any number of ranks: after a unit's backward the ranks
/// exchange its gradients, and rank (replica r, shard s) adds part r of shard s of every micro-batch of the round, in order, to what earlier
/// rounds left. At the end of the step the replicas gather each other's parts. Two exchanges (over the shard group, then over the replicas)
/// bring N parts of 1/N of the unit to each rank.
/// </summary>
internal sealed class OrderedGradients : GradientReduction
{
    private readonly Arena _arena;
    private readonly Exchange<float>? _exact;
    private readonly Exchange<BFloat16>? _rounded;
    private readonly long[] _sequence;

    public OrderedGradients(Parallelism parallelism, ParameterSet<float> windows, ShardSet<float> shards, ComputeStream? stream)
        : base(parallelism, windows, shards)
    {
        _arena = stream?.CreateArena("reduction buffers") ?? new Arena("reduction buffers");
        _sequence = new long[Layout.Units.Count];
        var largest = Layout.Units.Max(u => u.Elements);
        if (parallelism.Recipe.ReduceBf16)
        {
            _rounded = new Exchange<BFloat16>(parallelism, _arena, largest);
        }
        else
        {
            _exact = new Exchange<float>(parallelism, _arena, largest);
        }
    }

    public override IEnumerable<Arena> Arenas => [_arena];

    public override void Open(ComputeStream stream, int unit)
    {
    }

    public override void Close(ComputeStream stream, int unit)
    {
        var target = Target(unit);
        _exact?.Run(stream, Gradients.Units[unit], target, Round, Present);
        _rounded?.Run(stream, Gradients.Units[unit], target, Round, Present);
    }

    /// <summary>What this rank sends is not looked at: a zero added would turn -0 into +0.</summary>
    public override void CloseEmpty(ComputeStream stream, int unit) => Close(stream, unit);

    public override void Finish(ComputeStream stream)
    {
        for (var u = 0; u < _sequence.Length; u++)
        {
            _sequence[u] = Parallelism.Replicas.AllGather(stream, Target(u), Shards.Units[u]);
        }

        for (var u = 0; u < _sequence.Length; u++)
        {
            Parallelism.Replicas.Wait(stream, _sequence[u]);
        }
    }

    public override void Abandon(ComputeStream stream)
    {
    }

    /// <summary>The part of the shard that this replica adds up.</summary>
    private Tensor<float> Target(int unit)
    {
        var size = (int)(Shards.Units[unit].Count / Parallelism.ReplicaCount);
        return Shards.Units[unit].Rows(size * Parallelism.Replica, size);
    }

    private sealed class Exchange<T>
        where T : unmanaged
    {
        private readonly Parallelism _parallelism;
        private readonly Tensor<T> _sent, _received;

        public Exchange(Parallelism parallelism, Arena arena, int largest)
        {
            _parallelism = parallelism;
            _sent = arena.Declare<T>(largest);
            _received = arena.Declare<T>(largest);
        }

        public void Run(ComputeStream stream, Tensor<float> unit, Tensor<float> target, int round, int present)
        {
            var (shards, replicas) = (_parallelism.ShardCount, _parallelism.ReplicaCount);
            var count = (int)unit.Count;
            var (received, gathered) = (_received.Rows(0, count), _sent.Rows(0, count));
            Cast.Round(stream, unit, gathered);                 // with T = float a copy
            _parallelism.Shards.Wait(stream, _parallelism.Shards.AllToAll(stream, gathered, received));

            // received: my shard of the unit from every shard rank of this copy, R parts each; gathered: my part of it from every rank
            var (shard, part) = (count / shards, count / shards / replicas);
            for (var s = 0; s < shards; s++)
            {
                var sequence = _parallelism.Replicas.AllToAll(stream, received.Rows(s * shard, shard), gathered.Rows(s * shard, shard));
                _parallelism.Replicas.Wait(stream, sequence);
            }

            for (var rank = 0; rank < present; rank++)
            {
                var (r, s) = (rank / shards, rank % shards);
                var addend = gathered.Rows((s * shard) + (r * part), part);
                if (round == 0 && rank == 0)
                {
                    Cast.Widen(stream, addend, target);
                }
                else
                {
                    Cast.Add(stream, addend, target);
                }
            }
        }
    }
}
