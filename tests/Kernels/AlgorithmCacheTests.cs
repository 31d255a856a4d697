using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>Ranks that search at the same time come to one algorithm, the one that a resumed run will read.</summary>
public sealed class AlgorithmCacheTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("z1-algorithms-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void The_first_winner_counts_for_all()
    {
        var (first, second) = (Open(), Open());             // both have read an empty file
        var (one, other) = (Algorithm(1), Algorithm(2));
        Assert.Equal(one.ToBytes(), first.Add(Key(0), one, 1).ToBytes());
        Assert.Equal(one.ToBytes(), second.Add(Key(0), other, 0.5).ToBytes());
        foreach (var cache in new[] { first, second, Open() })
        {
            Assert.True(cache.TryGet(Key(0), out var known));
            Assert.Equal(one.ToBytes(), known.ToBytes());
        }
    }

    [Fact]
    public void Winners_of_ranks_that_write_at_once_are_all_kept()
    {
        const int ranks = 4, products = 20;
        var caches = Enumerable.Range(0, ranks).Select(_ => Open()).ToArray();
        Parallel.For(0, ranks, new ParallelOptions { MaxDegreeOfParallelism = ranks }, rank =>
        {
            for (var i = 0; i < products; i++)
            {
                caches[rank].Add(Key((rank * products) + i), Algorithm((byte)i), 1);
            }
        });
        Assert.Equal(ranks * products, Open().Count);
    }

    private static CublasLtMatmulKey Key(int m) => new()
    {
        M = m + 1, N = 64, K = 64,
        TransposeA = false, TransposeB = true,
        TypeA = CublasLtType.BFloat16, TypeB = CublasLtType.BFloat16, TypeD = CublasLtType.BFloat16, Alignment = 256,
    };

    private static CublasLtAlgorithm Algorithm(byte fill) => CublasLtAlgorithm.FromBytes([.. Enumerable.Repeat(fill, CublasLtAlgorithm.Size)]);

    private AlgorithmCache Open() => new(_directory, "a machine", Assert.Fail);
}
