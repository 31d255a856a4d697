using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class RopeTests
{
    private const double Theta = 1_000_000;

    [Theory]
    [InlineData("cpu", 1, 1, 1, 2)]
    [InlineData("cpu", 5, 3, 1, 6)]
    [InlineData("cpu", 17, 2, 1, 34)]
    [InlineData("cpu", 33, 14, 2, 64)]
    [InlineData("cpu", 19, 12, 2, 128)]
    [InlineData("hostcuda", 1, 1, 1, 2)]
    [InlineData("hostcuda", 5, 3, 1, 6)]
    [InlineData("hostcuda", 7, 2, 1, 34)]
    [InlineData("hostcuda", 9, 2, 1, 16)]
    [InlineData("hostcuda", 7, 14, 2, 64)]
    [InlineData("hostcuda", 5, 28, 4, 128)]
    public void Forward_and_backward_are_rotations(string device, int tokens, int queryHeads, int keyHeads, int headDim)
    {
        Rotations<BFloat16>(device, tokens, queryHeads, keyHeads, headDim);
        if (device == "cpu")
        {
            Rotations<float>(device, tokens, queryHeads, keyHeads, headDim);
        }
    }

    [Fact]
    public void Two_runs_on_a_device_give_the_same_bits()
    {
        using var bench = new KernelBench("hostcuda");
        using var arena = bench.Stream.CreateArena("rope");
        var table = Table(arena, 100, 64);
        var (positions, source) = (bench.Put(bench.Ints([.. Enumerable.Range(0, 20)])), bench.Input<BFloat16>(new Shape(20, 5 * 64)));
        KernelCheck.SameBitsTwice(() =>
        {
            var qkv = bench.Put(source);
            Rope.Forward(bench.Stream, qkv, positions, table, 4, 64);
            return [bench.Bits(qkv)];
        });
    }

    [Fact]
    public void The_host_refuses_positions_before_they_are_uploaded()
    {
        var e = Assert.Throws<ArgumentOutOfRangeException>(() => Rope.CheckPositions([7, 8, 0], 8));
        Assert.Contains("token 1 is 8", e.Message);
        Rope.CheckPositions([7, 0], 8);
    }

    [Fact]
    public void The_table_is_exact_to_one_rounding_at_far_positions()
    {
        using var arena = new Arena("rope");
        using var stream = new CpuStream(2);
        var table = new RopeTable(arena, 32768, 128, Theta);
        arena.Allocate();
        table.Fill();
        foreach (var position in (int[])[0, 1, 63, 64, 4097, 32767])
        {
            for (var i = 0; i < 64; i++)
            {
                var angle = position * Math.Exp(-2.0 * i / 128 * Math.Log(Theta));

                // the angle itself is good to 1e-16 relative: 1e-11 at the farthest position
                Assert.True(Math.Abs(table.Cos.Row(position)[i] - Math.Cos(angle)) <= KernelCheck.Eps / 2 * 1.01 + 1e-10);
                Assert.True(Math.Abs(table.Sin.Row(position)[i] - Math.Sin(angle)) <= KernelCheck.Eps / 2 * 1.01 + 1e-10);
            }
        }
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(8)]
    public void A_position_beyond_the_table_is_named_before_anything_is_written(int bad)
    {
        using var bench = new KernelBench();
        using var arena = new Arena("rope");
        var table = Table(arena, 8, 4);
        var qkv = bench.Input<float>(new Shape(3, 12));
        var before = KernelCheck.Bits(qkv);
        var e = Assert.Throws<ArgumentOutOfRangeException>(() => Rope.Forward(bench.Stream, qkv, bench.Ints(7, bad, 0), table, 2, 4));
        Assert.Contains($"token 1 is {bad}", e.Message);
        Assert.Equal(before, KernelCheck.Bits(qkv));
    }

    [Fact]
    public void Same_bits_for_any_workers_and_nothing_allocated()
    {
        using var bench = new KernelBench();
        using var arena = new Arena("rope");
        var table = Table(arena, 100, 64);
        var (positions, source) = (bench.Ints([.. Enumerable.Range(0, 100)]), bench.Input<BFloat16>(new Shape(100, 5 * 64)));
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            var qkv = bench.Output<BFloat16>(source.Shape);
            source.Span.CopyTo(qkv.Span);
            Rope.Forward(stream, qkv, positions, table, 4, 64);
            return [KernelCheck.Bits(qkv)];
        });
        KernelCheck.AllocatesNothing(stream =>
        {
            Rope.Forward(stream, source, positions, table, 4, 64);
            Rope.Backward(stream, source, positions, table, 4, 64);
        });
    }

    private static void Rotations<T>(string device, int tokens, int queryHeads, int keyHeads, int headDim)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        using var arena = bench.Stream.CreateArena("rope");
        const int MaxPositions = 5000;
        var table = Table(arena, MaxPositions, headDim);
        int[] at = [.. Enumerable.Range(0, tokens).Select(t => t == 0 ? MaxPositions - 1 : t * t * 37 % MaxPositions)];
        var positions = bench.Put(bench.Ints(at));
        var (rotated, heads) = (queryHeads + keyHeads, queryHeads + (2 * keyHeads));
        foreach (var direction in (int[])[1, -1])
        {
            var qkv = bench.Rows<T>(tokens, heads * headDim);
            var x = KernelBench.Doubles(qkv);
            var turned = bench.Put(qkv);
            if (direction == 1)
            {
                Rope.Forward(bench.Stream, turned, positions, table, rotated, headDim);
            }
            else
            {
                Rope.Backward(bench.Stream, turned, positions, table, rotated, headDim);
            }

            bench.Get(turned, qkv);

            var (expected, size) = (new double[x.Length], new double[x.Length]);
            for (var i = 0; i < x.Length; i++)
            {
                var (t, head, j) = (i / (heads * headDim), i / headDim % heads, i % headDim);
                if (head >= rotated)
                {
                    (expected[i], size[i]) = (x[i], 0);
                    continue;
                }

                // rotate_half: the partner of the first half is minus the second half, of the second half the first.
                var (first, half) = (j < headDim / 2, headDim / 2);
                var angle = at[t] * Math.Exp(-2.0 * (j % half) / headDim * Math.Log(Theta));
                var partner = first ? -x[i + half] : x[i - half];
                expected[i] = (x[i] * Math.Cos(angle)) + (direction * partner * Math.Sin(angle));
                size[i] = Math.Abs(x[i]) + Math.Abs(partner);
            }

            KernelCheck.EachWithin(qkv, expected, i => (size[i] * 3 * KernelCheck.Eps) + (size[i] == 0 ? 0 : KernelCheck.Rounding<T>() * 1.01 * Math.Abs(expected[i])));
        }
    }

    private static RopeTable Table(Arena arena, int positions, int headDim)
    {
        var table = new RopeTable(arena, positions, headDim, Theta);
        arena.Allocate();
        table.Fill();
        return table;
    }
}
