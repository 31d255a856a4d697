using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Optimize;

/// <summary>
/// Σ g² over the reduced gradients of all shards. Plain: each rank adds its own, and the ranks' sums are added in rank order. Ordered: sums of
/// <see cref="ShardLayout.NormChunk"/> elements of each flat unit are gathered and added in their order, so that the number of shards does
/// not show.
/// </summary>
internal sealed class GradientNorm
{
    private readonly Parallelism _parallelism;
    private readonly ShardSet<float> _gradients;
    private readonly Tensor<float>[] _pieces;
    private readonly double[] _sum = new double[1];
    private readonly Arena? _arena;
    private readonly Tensor<double>[] _sums = [];
    private readonly double[] _host = [];

    public GradientNorm(Parallelism parallelism, ShardSet<float> gradients, ShardPiece[][] pieces, ComputeStream? stream)
    {
        (_parallelism, _gradients) = (parallelism, gradients);
        _pieces = [.. pieces.SelectMany(unit => unit).Select(piece => gradients[piece])];
        if (parallelism.Recipe.Ordered)
        {
            _arena = stream?.CreateArena("norm chunks") ?? new Arena("norm chunks");
            _sums = [.. gradients.Layout.Units.Select(unit => _arena.Declare<double>(unit.Elements / ShardLayout.NormChunk))];
            _host = new double[gradients.Layout.Units.Max(unit => unit.Elements / ShardLayout.NormChunk)];
        }
    }

    public IEnumerable<Arena> Arenas => _arena is null ? [] : [_arena];

    public double SumOfSquares(ComputeStream stream)
    {
        if (_arena is not null)
        {
            return Ordered(stream);
        }

        _sum[0] = GlobalNorm.SumOfSquares(stream, _pieces);
        _parallelism.Shards.AllReduce(_sum, Reduction.Sum);
        return _sum[0];
    }

    private double Ordered(ComputeStream stream)
    {
        var total = 0.0;
        for (var u = 0; u < _sums.Length; u++)
        {
            var (chunks, shards) = ((int)_sums[u].Count, _parallelism.Shards);
            var own = _sums[u].Rows(chunks / shards.Size * shards.Rank, chunks / shards.Size);
            GlobalNorm.ChunkSums(stream, _gradients.Units[u], ShardLayout.NormChunk, own);
            shards.Wait(stream, shards.AllGather(stream, own, _sums[u]));
            TensorCopy.Download(stream, _sums[u], _host.AsSpan(0, chunks));
            foreach (var sum in _host.AsSpan(0, chunks))
            {
                total += sum;
            }
        }

        return total;
    }
}
