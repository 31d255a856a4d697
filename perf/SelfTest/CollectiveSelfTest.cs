using System.Runtime.InteropServices;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>
/// Every operation of a group of ranks against its definition, in double. Every rank calls it at the same place; each checks what it got.
/// Inputs follow from rank and index, so that every rank knows what all gave. Bounds: a sum of n values in fp32 (double, bf16) has n - 1
/// roundings, each at most half a unit in the last place of a partial sum, which is at most Σ|x|; twice that is allowed. What is only moved
/// must have equal bits.
/// </summary>
public static class CollectiveSelfTest
{
    private static readonly int[] s_counts = [1, 7, 1000, 200_003];         // the last: more than a piece of any backend, and prime

    /// <summary>The checks of this rank.</summary>
    public static IEnumerable<SelfTestResult> Run(ICollective ranks, ComputeStream stream)
    {
        ArgumentNullException.ThrowIfNull(ranks);
        ArgumentNullException.ThrowIfNull(stream);
        foreach (var count in s_counts)
        {
            yield return AllReduce<float>(ranks, stream, count, 1.0 / (1 << 24), v => (float)v, v => v);
            yield return AllReduce<double>(ranks, stream, count, 1.0 / (1L << 53), v => v, v => v);
            yield return AllReduce<BFloat16>(ranks, stream, count, 1.0 / 256, v => (BFloat16)(float)v, v => v);
            yield return ReduceScatter<float>(ranks, stream, count, inPlace: false, 1.0 / (1 << 24), v => (float)v, v => v);
            yield return ReduceScatter<float>(ranks, stream, count, inPlace: true, 1.0 / (1 << 24), v => (float)v, v => v);
            yield return ReduceScatter<BFloat16>(ranks, stream, count, inPlace: true, 1.0 / 256, v => (BFloat16)(float)v, v => v);
            yield return AllGather<float>(ranks, stream, count, inPlace: false, v => (float)v);
            yield return AllGather<BFloat16>(ranks, stream, count, inPlace: true, v => (BFloat16)(float)v);
            yield return AllToAll<float>(ranks, stream, count, v => (float)v);
            for (var root = 0; root < ranks.Size; root++)
            {
                yield return Broadcast<int>(ranks, stream, count, root, v => (int)(v * 1000));
            }
        }

        yield return HostValues(ranks);
        yield return Outstanding(ranks, stream);
        yield return Parts(ranks, stream);
        ranks.Barrier();
    }

    /// <summary>What rank r gives at i: sixteenths from -8 to 8, exact in bf16.</summary>
    private static double Value(int rank, int i)
    {
        var x = unchecked(((uint)i * 2654435761u) ^ ((uint)(rank + 1) * 0x9E3779B9u));
        x ^= x >> 15;
        x = unchecked(x * 0x85EBCA6Bu);
        x ^= x >> 13;
        return ((int)(x % 257) - 128) / 16.0;
    }

    private static SelfTestResult AllReduce<T>(
        ICollective ranks, ComputeStream stream, int count, double rounding, Func<double, T> from, Func<T, double> to)
        where T : unmanaged
    {
        using var arena = stream.CreateArena("collective check");
        var data = arena.Declare<T>(count);
        arena.Allocate();
        Upload(stream, data, i => from(Value(ranks.Rank, i)));
        ranks.Wait(stream, ranks.AllReduce(stream, data, Reduction.Sum));
        var got = Download(stream, data);
        var equal = SameBits(ranks, got);
        var worst = Worst(got, to, i => Sum(ranks.Size, i), i => Bound(ranks.Size, i, rounding));
        return equal
            ? SelfTestResult.Within($"all-reduce of {count:N0} {Name<T>()}, error / bound", worst, 1)
            : new($"all-reduce of {count:N0} {Name<T>()}", false, "not the same bits on every rank");
    }

    private static SelfTestResult ReduceScatter<T>(
        ICollective ranks, ComputeStream stream, int count, bool inPlace, double rounding, Func<double, T> from, Func<T, double> to)
        where T : unmanaged
    {
        using var arena = stream.CreateArena("collective check");
        var whole = arena.Declare<T>(ranks.Size * count);
        var other = arena.Declare<T>(count);
        arena.Allocate();
        var shard = inPlace ? whole.Rows(ranks.Rank * count, count) : other;
        TensorCopy.Fill(stream, other, 0xFF);
        Upload(stream, whole, i => from(Value(ranks.Rank, i)));
        ranks.Wait(stream, ranks.ReduceScatter(stream, whole, shard, Reduction.Sum));
        var first = ranks.Rank * count;
        var worst = Worst(Download(stream, shard), to, i => Sum(ranks.Size, first + i), i => Bound(ranks.Size, first + i, rounding));
        return SelfTestResult.Within($"reduce-scatter of {count:N0} {Name<T>()}{(inPlace ? " in place" : "")}, error / bound", worst, 1);
    }

    private static SelfTestResult AllGather<T>(ICollective ranks, ComputeStream stream, int count, bool inPlace, Func<double, T> from)
        where T : unmanaged
    {
        using var arena = stream.CreateArena("collective check");
        var whole = arena.Declare<T>(ranks.Size * count);
        var other = arena.Declare<T>(count);
        arena.Allocate();
        var shard = inPlace ? whole.Rows(ranks.Rank * count, count) : other;
        TensorCopy.Fill(stream, whole, 0xFF);
        Upload(stream, shard, i => from(Value(ranks.Rank, i)));
        ranks.Wait(stream, ranks.AllGather(stream, shard, whole));
        var name = $"all-gather of {count:N0} {Name<T>()}{(inPlace ? " in place" : "")}";
        return Moved(name, Download(stream, whole), i => from(Value(i / count, i % count)));
    }

    private static SelfTestResult AllToAll<T>(ICollective ranks, ComputeStream stream, int count, Func<double, T> from)
        where T : unmanaged
    {
        using var arena = stream.CreateArena("collective check");
        var sent = arena.Declare<T>(ranks.Size * count);
        var received = arena.Declare<T>(ranks.Size * count);
        arena.Allocate();
        TensorCopy.Fill(stream, received, 0xFF);
        Upload(stream, sent, i => from(Value(ranks.Rank, i)));
        ranks.Wait(stream, ranks.AllToAll(stream, sent, received));
        var (name, first) = ($"all-to-all of {count:N0} {Name<T>()}", ranks.Rank * count);
        return Moved(name, Download(stream, received), i => from(Value(i / count, first + (i % count))));
    }

    private static SelfTestResult Broadcast<T>(ICollective ranks, ComputeStream stream, int count, int root, Func<double, T> from)
        where T : unmanaged
    {
        using var arena = stream.CreateArena("collective check");
        var data = arena.Declare<T>(count);
        arena.Allocate();
        TensorCopy.Fill(stream, data, 0xFF);
        if (ranks.Rank == root)
        {
            Upload(stream, data, i => from(Value(root, i)));
        }

        ranks.Wait(stream, ranks.Broadcast(stream, data, root));
        return Moved($"broadcast of {count:N0} {Name<T>()} from rank {root}", Download(stream, data), i => from(Value(root, i)));
    }

    private static SelfTestResult HostValues(ICollective ranks)
    {
        const int Count = 150;
        var (sums, largest, wrong) = (new double[Count], new double[Count], 0);
        for (var i = 0; i < Count; i++)
        {
            sums[i] = Value(ranks.Rank, i) / 3;
            largest[i] = i == 5 && ranks.Rank == ranks.Size - 1 ? double.NaN : Value(ranks.Rank, i);
        }

        ranks.AllReduce(sums, Reduction.Sum);
        ranks.AllReduce(largest, Reduction.Max);
        for (var i = 0; i < Count; i++)
        {
            var (sum, most) = (Value(0, i) / 3, Value(0, i));
            for (var rank = 1; rank < ranks.Size; rank++)
            {
                sum += Value(rank, i) / 3;
                most = Math.Max(most, Value(rank, i));
            }

            wrong += BitConverter.DoubleToInt64Bits(sum) != BitConverter.DoubleToInt64Bits(sums[i]) ? 1 : 0;
            wrong += (i == 5 ? double.IsNaN(largest[i]) : largest[i] == most) ? 0 : 1;
        }

        return new($"host values, summed in rank order, and the largest, where NaN wins", wrong == 0, $"{wrong} of {2 * Count} differ");
    }

    /// <summary>Several operations under way, waited for from the last to the first, and work enqueued before and after.</summary>
    private static SelfTestResult Outstanding(ICollective ranks, ComputeStream stream)
    {
        const int Count = 3000, Operations = 6;
        using var arena = stream.CreateArena("collective check");
        var data = new Tensor<float>[Operations];
        for (var o = 0; o < Operations; o++)
        {
            data[o] = arena.Declare<float>(Count);
        }

        var copy = arena.Declare<float>(Count);
        arena.Allocate();
        var sequences = new long[Operations];
        for (var o = 0; o < Operations; o++)
        {
            Upload(stream, data[o], i => (float)Value(ranks.Rank, i + o));
            sequences[o] = ranks.AllReduce(stream, data[o], Reduction.Sum);
        }

        var worst = 0.0;
        for (var o = Operations - 1; o >= 0; o--)
        {
            ranks.Wait(stream, sequences[o]);
            TensorCopy.Copy(stream, data[o], copy);
            worst = Math.Max(
                worst, Worst(Download(stream, copy), v => v, i => Sum(ranks.Size, i + o), i => Bound(ranks.Size, i + o, 1.0 / (1 << 24))));
        }

        return SelfTestResult.Within($"{Operations} all-reduces outstanding, error / bound", worst, 1);
    }

    /// <summary>Even and odd ranks as groups of their own, beside the whole.</summary>
    private static SelfTestResult Parts(ICollective ranks, ComputeStream stream)
    {
        const int Count = 5000;
        using var part = ranks.Split(ranks.Rank % 2, ranks.Rank % 2 == 0 ? "even" : "odd");
        using var arena = stream.CreateArena("collective check");
        var (mine, all) = (arena.Declare<float>(Count), arena.Declare<float>(Count));
        arena.Allocate();
        Upload(stream, mine, i => (float)Value(ranks.Rank, i));
        Upload(stream, all, i => (float)Value(ranks.Rank, i));
        var (first, second) = (part.AllReduce(stream, mine, Reduction.Sum), ranks.AllReduce(stream, all, Reduction.Sum));
        part.Wait(stream, first);
        ranks.Wait(stream, second);
        double OfPart(int i, Func<double, double> f)
        {
            var sum = 0.0;
            for (var rank = ranks.Rank % 2; rank < ranks.Size; rank += 2)
            {
                sum += f(Value(rank, i));
            }

            return sum;
        }

        var worst = Math.Max(
            Worst(Download(stream, mine), v => v, i => OfPart(i, v => v), i => part.Size * OfPart(i, Math.Abs) / (1 << 24)),
            Worst(Download(stream, all), v => v, i => Sum(ranks.Size, i), i => Bound(ranks.Size, i, 1.0 / (1 << 24))));
        var expected = (ranks.Size + 1 - (ranks.Rank % 2)) / 2;
        return part.Size == expected && part.Rank == ranks.Rank / 2
            ? SelfTestResult.Within("groups of even and odd ranks, error / bound", worst, 1)
            : new("groups of even and odd ranks", false, $"rank {part.Rank} of {part.Size}, expected {ranks.Rank / 2} of {expected}");
    }

    private static double Sum(int size, int i)
    {
        var sum = 0.0;
        for (var rank = 0; rank < size; rank++)
        {
            sum += Value(rank, i);
        }

        return sum;
    }

    private static double Bound(int size, int i, double rounding)
    {
        var sum = 0.0;
        for (var rank = 0; rank < size; rank++)
        {
            sum += Math.Abs(Value(rank, i));
        }

        return (size - 1) * rounding * sum;
    }

    /// <summary>The largest error as a part of its bound; where the bound is zero, so must be the error.</summary>
    private static double Worst<T>(T[] got, Func<T, double> to, Func<int, double> expected, Func<int, double> bound)
    {
        var worst = 0.0;
        for (var i = 0; i < got.Length; i++)
        {
            var (error, most) = (Math.Abs(to(got[i]) - expected(i)), bound(i));
            if (!(error <= most))
            {
                return most > 0 && error / most is var ratio && ratio > 1 ? ratio : double.PositiveInfinity;
            }

            worst = most > 0 ? Math.Max(worst, error / most) : worst;
        }

        return worst;
    }

    private static SelfTestResult Moved<T>(string name, T[] got, Func<int, T> expected)
        where T : unmanaged
    {
        var wrong = 0;
        for (var i = 0; i < got.Length; i++)
        {
            wrong += EqualityComparer<T>.Default.Equals(got[i], expected(i)) ? 0 : 1;
        }

        return new(name, wrong == 0, $"{wrong} of {got.Length:N0} differ");
    }

    /// <summary>Whether all ranks have the same bits: the least and the largest checksum of 48 bits, exact in double, are equal.</summary>
    private static bool SameBits<T>(ICollective ranks, T[] values)
        where T : unmanaged
    {
        var hash = 0UL;
        foreach (var b in MemoryMarshal.AsBytes(values.AsSpan()))
        {
            hash = unchecked((hash ^ b) * 0x100000001B3UL);
        }

        double[] both = [hash & 0xFFFFFFFFFFFF, -(double)(hash & 0xFFFFFFFFFFFF)];
        ranks.AllReduce(both, Reduction.Max);
        return both[0] == -both[1];
    }

    private static void Upload<T>(ComputeStream stream, Tensor<T> to, Func<int, T> value)
        where T : unmanaged
    {
        var values = new T[to.Count];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = value(i);
        }

        TensorCopy.Upload(stream, values, to);
    }

    private static T[] Download<T>(ComputeStream stream, Tensor<T> from)
        where T : unmanaged
    {
        var values = new T[from.Count];
        TensorCopy.Download<T>(stream, from, values);
        return values;
    }

    private static string Name<T>() =>
        typeof(T) == typeof(BFloat16) ? "bf16" : typeof(T) == typeof(float) ? "fp32" : typeof(T) == typeof(double) ? "fp64" : "int32";
}
