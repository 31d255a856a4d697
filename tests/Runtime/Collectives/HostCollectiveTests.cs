using System.Runtime.CompilerServices;
using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

/// <summary>Every operation over threads and over sockets: against sums in double, and bit for bit against the sum in the order of the
/// ranks.</summary>
public sealed class HostCollectiveTests
{
    // nothing, one, odd, prime, a vector more or less; to which one is added that is larger than a window of pieces
    private static readonly int[] s_sizes = [0, 1, 2, 7, 63, 64, 1009, 1024, 4099];

    private static readonly CollectiveOptions s_smallPieces = new() { PieceBytes = 8 << 10, Diagnostics = TextWriter.Null };

    public static TheoryData<string, int, string> Cases()
    {
        var cases = new TheoryData<string, int, string>();
        foreach (var backend in new[] { Ranks.Threads, Ranks.Tcp })
        {
            for (var size = 1; size <= 4; size++)
            {
                foreach (var element in new[] { "float", "bf16", "double" })
                {
                    cases.Add(backend, size, element);
                }
            }
        }

        return cases;
    }

    [Theory, MemberData(nameof(Cases))]
    public void Every_operation_gives_what_its_formula_says(string backend, int size, string element)
    {
        switch (element)
        {
            case "float":
                Ranks.Run(backend, size, AllOperations<float>, s_smallPieces);
                break;
            case "bf16":
                Ranks.Run(backend, size, AllOperations<BFloat16>, s_smallPieces);
                break;
            default:
                Ranks.Run(backend, size, AllOperations<double>, s_smallPieces);
                break;
        }
    }

    [Theory]
    [InlineData(Ranks.Threads, 3)]
    [InlineData(Ranks.Tcp, 3)]
    public void Other_elements_are_moved_and_not_reduced(string backend, int size) => Ranks.Run(backend, size, group =>
    {
        using var stream = new CpuStream(1);
        using var arena = new Arena("moved", guarded: true);
        var (shard, whole, swapped) = (arena.Declare<byte>(13), arena.Declare<byte>(13 * size), arena.Declare<long>(5 * size));
        var received = arena.Declare<long>(5 * size);
        arena.Allocate();
        shard.Span.Fill((byte)(group.Rank + 1));
        group.Wait(stream, group.AllGather(stream, shard, whole));
        for (var i = 0; i < swapped.Count; i++)
        {
            swapped.Span[i] = ((long)group.Rank << 40) + i;
        }

        group.Wait(stream, group.AllToAll(stream, swapped, received));
        for (var i = 0; i < whole.Count; i++)
        {
            Assert.Equal((i / 13) + 1, whole.Span[i]);
        }

        for (var i = 0; i < received.Count; i++)
        {
            Assert.Equal(((long)(i / 5) << 40) + (group.Rank * 5) + (i % 5), received.Span[i]);
        }

        Assert.Contains("reduced, not of Byte",
            Assert.Throws<NotSupportedException>(() => group.AllReduce(stream, whole, Reduction.Sum)).Message);
    });

    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void Host_values_are_added_in_the_order_of_the_ranks(string backend) => Ranks.Run(backend, 3, group =>
    {
        foreach (var count in new[] { 0, 1, 3, 8192, 20_000 })
        {
            var values = Enumerable.Range(0, count).Select(i => (double)Value(group.Rank, i)).ToArray();
            group.AllReduce(values, Reduction.Sum);
            for (var i = 0; i < count; i++)
            {
                Assert.Equal((double)Value(0, i) + Value(1, i) + Value(2, i), values[i]);
            }
        }

        double[] verdict = [group.Rank == 1 ? double.NaN : group.Rank, group.Rank];
        group.AllReduce(verdict, Reduction.Max);
        Assert.Equal([double.NaN, 2], verdict);
    });

    [Theory]
    [InlineData(Ranks.Threads, 2)]
    [InlineData(Ranks.Tcp, 2)]
    [InlineData(Ranks.Threads, 4)]
    public void Many_operations_may_be_queued_before_a_wait(string backend, int size) => Ranks.Run(backend, size, group =>
    {
        using var stream = new CpuStream(1);
        using var arena = new Arena("queued", guarded: false);
        var tensors = Enumerable.Range(0, 50).Select(_ => arena.Declare<float>(333)).ToArray();
        arena.Allocate();
        long last = 0;
        for (var i = 0; i < tensors.Length; i++)
        {
            tensors[i].Span.Fill(group.Rank + i);
            last = group.AllReduce(stream, tensors[i], Reduction.Sum);
            Assert.Equal(i + 1, last);
        }

        group.Wait(stream, last);
        for (var i = 0; i < tensors.Length; i++)
        {
            Assert.All(tensors[i].Span.ToArray(), v => Assert.Equal((size * i) + (size * (size - 1) / 2), v));
        }
    }, s_smallPieces with { QueueSize = 8 });

    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void Split_groups_work_beside_each_other_in_any_order(string backend) => Ranks.Run(backend, 4, world =>
    {
        using var stream = new CpuStream(1);
        using var shards = world.Split(world.Rank / 2, "shard");
        using var replicas = world.Split(world.Rank % 2, "replica");
        Assert.Equal((2, world.Rank % 2), (shards.Size, shards.Rank));
        Assert.Equal((2, world.Rank / 2), (replicas.Size, replicas.Rank));
        using var arena = new Arena("split", guarded: false);
        var (a, b, c) = (arena.Declare<float>(5000), arena.Declare<float>(5000), arena.Declare<float>(5000));
        arena.Allocate();
        for (var repeat = 0; repeat < 10; repeat++)
        {
            a.Span.Fill(1 + world.Rank);
            b.Span.Fill(10 * (1 + world.Rank));
            c.Span.Fill(100);

            // neighbours begin with different groups: with one thread for all groups this would hang
            long inShards, inReplicas, inWorld;
            if ((world.Rank + (world.Rank / 2)) % 2 == 0)
            {
                inShards = shards.AllReduce(stream, a, Reduction.Sum);
                inWorld = world.AllReduce(stream, c, Reduction.Sum);
                inReplicas = replicas.AllReduce(stream, b, Reduction.Sum);
            }
            else
            {
                inReplicas = replicas.AllReduce(stream, b, Reduction.Sum);
                inShards = shards.AllReduce(stream, a, Reduction.Sum);
                inWorld = world.AllReduce(stream, c, Reduction.Sum);
            }

            shards.Wait(stream, inShards);
            replicas.Wait(stream, inReplicas);
            world.Wait(stream, inWorld);
            var pair = world.Rank / 2 * 2;
            Assert.All(a.Span.ToArray(), v => Assert.Equal((2 * pair) + 3, v));
            Assert.All(b.Span.ToArray(), v => Assert.Equal(10 * ((2 * (world.Rank % 2)) + 4), v));
            Assert.All(c.Span.ToArray(), v => Assert.Equal(400, v));
        }

        using var alone = shards.Split(world.Rank, "alone");
        alone.Barrier();
        Assert.Equal(1, alone.Size);
        world.Barrier();
    });

    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void Groups_of_one_name_are_groups_of_their_own(string backend) => Ranks.Run(backend, 4, world =>
    {
        // both halves split into single ranks, or pairs, under names that occur in the other half too
        using var half = world.Split(world.Rank / 2, "same");
        using var again = world.Split(world.Rank % 2, "same");
        using var inHalf = half.Split(0, "same");
        using var inAgain = again.Split(0, "same");
        double[] sum = [world.Rank], other = [world.Rank];
        inHalf.AllReduce(sum, Reduction.Sum);
        inAgain.AllReduce(other, Reduction.Sum);
        Assert.Equal((2 * (world.Rank / 2 * 2)) + 1, sum[0]);
        Assert.Equal((2 * (world.Rank % 2)) + 2, other[0]);
        world.Barrier();
    });

    [Fact]
    public void The_largest_of_values_with_a_NaN_is_NaN() => Ranks.Run(Ranks.Threads, 3, group =>
    {
        Check<float>();
        Check<BFloat16>();
        Check<double>();

        void Check<T>()
            where T : unmanaged
        {
            using var stream = new CpuStream(1);
            using var arena = new Arena("nan", guarded: true);
            var data = arena.Declare<T>(45);            // vectors and a tail
            arena.Allocate();
            Fill(data, i => i % 3 == group.Rank && i % 2 == 0 ? float.NaN : i);
            group.Wait(stream, group.AllReduce(stream, data, Reduction.Max));
            for (var i = 0; i < data.Count; i++)
            {
                Same(i % 2 == 0 ? double.NaN : AsDouble(Of<T>(i)), AsDouble(data.Span[i]));
            }
        }
    });

    [Fact]
    public void Wrong_shapes_overlaps_and_streams_are_refused_in_a_sentence() => Ranks.Run(Ranks.Threads, 2, group =>
    {
        using var stream = new CpuStream(1);
        using var arena = new Arena("refused", guarded: false);
        var whole = arena.Declare<float>(8);
        var shard = arena.Declare<float>(4);
        arena.Allocate();
        Assert.Equal("2 shards of 8 elements do not make a whole of 8",
            Assert.Throws<ArgumentException>(() => group.AllGather(stream, whole, whole)).Message);
        Assert.Contains("overlaps the whole", Assert.Throws<ArgumentException>(
            () => group.ReduceScatter(stream, whole, whole.Rows(1, 4), Reduction.Sum)).Message);
        Assert.Contains("overlaps", Assert.Throws<ArgumentException>(() => group.AllToAll(stream, whole, whole)).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => group.Broadcast(stream, shard, 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => group.Wait(stream, 1));
        group.Barrier();
    });

    [Theory]
    [InlineData(Ranks.Threads)]
    [InlineData(Ranks.Tcp)]
    public void Leaving_twice_is_leaving_once(string backend) => Ranks.Run(backend, 2, group =>
    {
        group.Barrier();
        group.Dispose();
        group.Dispose();
        Assert.Throws<ObjectDisposedException>(group.Barrier);
    });

    private static void AllOperations<T>(ICollective group)
        where T : unmanaged
    {
        using var stream = new CpuStream(1);
        var pieces = ((s_smallPieces.PieceBytes / Unsafe.SizeOf<T>()) * group.Size) + 77;
        foreach (var n in s_sizes.Append(pieces))
        {
            foreach (var reduction in new[] { Reduction.Sum, Reduction.Max })
            {
                Reduces<T>(group, stream, n, reduction);
            }

            Moves<T>(group, stream, n);
        }

        group.Barrier();
    }

    private static void Reduces<T>(ICollective group, CpuStream stream, int n, Reduction reduction)
        where T : unmanaged
    {
        using var arena = new Arena("reduced", guarded: true);
        var (data, again) = (arena.Declare<T>(n), arena.Declare<T>(n));
        var (whole, inPlace, shard) = (arena.Declare<T>(n * group.Size), arena.Declare<T>(n * group.Size), arena.Declare<T>(n));
        arena.Allocate();
        Poison(shard);
        Fill(data, i => Value(group.Rank, i));
        Fill(again, i => Value(group.Rank, i));
        Fill(whole, i => Value(group.Rank, i));
        Fill(inPlace, i => Value(group.Rank, i));
        var own = inPlace.Rows(group.Rank * n, n);
        group.AllReduce(stream, data, reduction);
        group.AllReduce(stream, again, reduction);
        group.ReduceScatter(stream, whole, shard, reduction);
        group.Wait(stream, group.ReduceScatter(stream, inPlace, own, reduction));
        for (var i = 0; i < n; i++)
        {
            Check(data, i, i);
            Check(again, i, i);
            Check(shard, i, (group.Rank * n) + i);
            Check(own, i, (group.Rank * n) + i);
        }

        void Check(Tensor<T> result, int at, int index)
        {
            var value = AsDouble(result.Span[at]);
            Same(InRankOrder<T>(group.Size, index, reduction), value);
            var (exact, magnitude) = Exact<T>(group.Size, index, reduction);

            // Size - 1 additions, each within half an ulp of at most the sum of magnitudes; bf16 is rounded once more
            var unit = typeof(T) == typeof(double) ? Math.Pow(2, -53) : Math.Pow(2, -24);
            // doubles are thirds: rounded here and in the oracle
            var additions = group.Size - 1 + (typeof(T) == typeof(double) ? 2 : 0);
            var bound = additions * unit * magnitude * 1.0001;
            bound += typeof(T) == typeof(BFloat16) ? Math.Pow(2, -8) * (Math.Abs(exact) + bound) * 1.0001 : 0;
            if (!(Math.Abs(value - exact) <= bound))
            {
                Assert.Fail($"{value} instead of {exact}, bound {bound}");
            }
        }
    }

    private static void Moves<T>(ICollective group, CpuStream stream, int n)
        where T : unmanaged
    {
        using var arena = new Arena("moved", guarded: true);
        var (shard, whole, inPlace) = (arena.Declare<T>(n), arena.Declare<T>(n * group.Size), arena.Declare<T>(n * group.Size));
        var (sent, received, told) = (arena.Declare<T>(n * group.Size), arena.Declare<T>(n * group.Size), arena.Declare<T>(n));
        arena.Allocate();
        Poison(whole);
        Poison(inPlace);
        Poison(received);
        Poison(told);
        var root = n % group.Size;
        Fill(shard, i => Value(group.Rank, i));
        Fill(inPlace.Rows(group.Rank * n, n), i => Value(group.Rank, i));
        Fill(sent, i => Value(group.Rank, i));
        if (group.Rank == root)
        {
            Fill(told, i => Value(root, i));
        }

        group.AllGather(stream, shard, whole);
        group.AllGather(stream, inPlace.Rows(group.Rank * n, n), inPlace);
        group.AllToAll(stream, sent, received);
        group.Wait(stream, group.Broadcast(stream, told, root));
        for (var r = 0; r < group.Size; r++)
        {
            for (var i = 0; i < n; i++)
            {
                Same(Stored<T>(r, i), AsDouble(whole.Span[(r * n) + i]));
                Same(Stored<T>(r, i), AsDouble(inPlace.Span[(r * n) + i]));
                Same(Stored<T>(r, (group.Rank * n) + i), AsDouble(received.Span[(r * n) + i]));
                Same(Stored<T>(root, i), AsDouble(told.Span[i]));
            }
        }
    }

    /// <summary>Of rank and place alone; magnitudes from 2^-8 to 2^7, so that sums round and their order shows.</summary>
    internal static float Value(int rank, int i)
    {
        var hash = (uint)(((rank + 1) * 0x9E3779B1) ^ ((i + 1) * 0x85EBCA77));
        hash ^= hash >> 15;
        hash *= 0x2C1B3C6D;
        hash ^= hash >> 12;
        return (((hash & 0xFFFF) / 32768f) - 1) * MathF.ScaleB(1, (int)(hash >> 28) - 8);
    }

    private static void Fill<T>(Tensor<T> tensor, Func<int, float> value)
        where T : unmanaged
    {
        for (var i = 0; i < tensor.Count; i++)
        {
            tensor.Span[i] = Of<T>(value(i));
        }
    }

    /// <summary>Assert.Equal for millions of values.</summary>
    private static void Same(double expected, double actual)
    {
        if (BitConverter.DoubleToInt64Bits(expected) != BitConverter.DoubleToInt64Bits(actual))
        {
            Assert.Equal(expected, actual);
        }
    }

    private static void Poison<T>(Tensor<T> tensor)
        where T : unmanaged => tensor.Span.Fill(Of<T>(float.NaN));

    private static T Of<T>(double value)
        where T : unmanaged =>
        typeof(T) == typeof(float) ? (T)(object)(float)value : typeof(T) == typeof(double) ? (T)(object)(value / 3)
            : (T)(object)(BFloat16)(float)value;

    private static double AsDouble<T>(T value)
        where T : unmanaged =>
        typeof(T) == typeof(float) ? (float)(object)value : typeof(T) == typeof(double) ? (double)(object)value : (BFloat16)(object)value;

    private static double Stored<T>(int rank, int i)
        where T : unmanaged => AsDouble(Of<T>(Value(rank, i)));

    private static double InRankOrder<T>(int size, int i, Reduction reduction)
        where T : unmanaged
    {
        if (typeof(T) == typeof(double))
        {
            var sum = Stored<T>(0, i);
            for (var r = 1; r < size; r++)
            {
                sum = reduction == Reduction.Sum ? sum + Stored<T>(r, i) : Math.Max(sum, Stored<T>(r, i));
            }

            return sum;
        }

        var single = (float)Stored<T>(0, i);
        for (var r = 1; r < size; r++)
        {
            single = reduction == Reduction.Sum ? single + (float)Stored<T>(r, i) : Math.Max(single, (float)Stored<T>(r, i));
        }

        return AsDouble(Of<T>(single));
    }

    private static (double Exact, double Magnitude) Exact<T>(int size, int i, Reduction reduction)
        where T : unmanaged
    {
        // values are multiples of 2^-23 below 2^8: a sum of four is exact in double, as is that of the thirds' threefold
        var third = typeof(T) == typeof(double) ? 3.0 : 1.0;
        var (sum, magnitude, largest) = (0.0, 0.0, double.MinValue);
        for (var r = 0; r < size; r++)
        {
            var value = third == 3.0 ? Value(r, i) : Stored<T>(r, i);
            (sum, magnitude, largest) = (sum + value, magnitude + Math.Abs(value), Math.Max(largest, value));
        }

        return reduction == Reduction.Sum ? (sum / third, magnitude / third) : (largest / third, 0);
    }
}
