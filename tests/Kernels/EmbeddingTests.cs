using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

[Collection("hostcuda")]
public sealed class EmbeddingTests
{
    [Theory]
    [InlineData("cpu", 1, 1, 1)]
    [InlineData("cpu", 7, 5, 17)]
    [InlineData("cpu", 97, 31, 63)]
    [InlineData("cpu", 130, 40, 65)]
    [InlineData("cpu", 1280, 300, 896)]
    [InlineData("hostcuda", 1, 1, 1)]
    [InlineData("hostcuda", 7, 5, 17)]
    [InlineData("hostcuda", 97, 31, 64)]
    [InlineData("hostcuda", 130, 40, 1033)]
    [InlineData("hostcuda", 1100, 1, 8)]                // one token, beyond a chunk of 1,024
    [InlineData("hostcuda", 1100, 900, 40)]
    [InlineData("hostcuda", 37, 30, 3584)]
    public void Forward_and_backward_are_exact(string device, int tokens, int vocabulary, int hidden)
    {
        Exact<BFloat16>(device, tokens, vocabulary, hidden);
        if (device == "cpu")
        {
            Exact<float>(device, tokens, vocabulary, hidden);
        }
    }

    [Theory]
    [InlineData(64)]
    [InlineData(63)]
    public void A_device_adds_equal_tokens_in_the_order_of_the_cpu(int hidden)
    {
        using var bench = new KernelBench("hostcuda");
        var (tokens, dy) = (Tokens(bench, 201, 11), bench.Rows<BFloat16>(201, hidden));
        foreach (var accumulate in (bool[])[false, true])
        {
            var start = bench.Input<float>(new Shape(11, hidden));
            var (expected, actual) = (bench.Copy<float>(start.Shape, KernelBench.Doubles(start)), bench.Put(start));
            Embedding.Backward(bench.Cpu, tokens, dy, expected, accumulate);
            Embedding.Backward(bench.Stream, bench.Put(tokens), bench.Put(dy), actual, accumulate);
            Assert.Equal(KernelCheck.Bits(expected), bench.Bits(actual));
        }
    }

    [Fact]
    public void The_host_refuses_tokens_before_they_are_uploaded()
    {
        var e = Assert.Throws<ArgumentOutOfRangeException>(() => Embedding.CheckTokens([0, 8, 9], 9));
        Assert.Contains("position 2 is 9", e.Message);
        Embedding.CheckTokens([0, 8], 9);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(9)]
    [InlineData(int.MinValue)]
    public void A_token_out_of_range_is_named_before_anything_is_written(int bad)
    {
        using var bench = new KernelBench();
        var tokens = bench.Ints(3, 8, bad, 0);
        var y = bench.Output<float>(new Shape(4, 5));
        var e = Assert.Throws<ArgumentOutOfRangeException>(() => Embedding.Forward(bench.Stream, tokens, bench.Input<float>(new Shape(9, 5)), y));
        Assert.Contains($"position 2 is {bad}", e.Message);
        Assert.All(y.Span.ToArray(), v => Assert.True(float.IsNaN(v)));

        var dweight = bench.Output<float>(new Shape(9, 5));
        Assert.Throws<ArgumentOutOfRangeException>(() => Embedding.Backward(bench.Stream, tokens, y, dweight, false));
        Assert.All(dweight.Span.ToArray(), v => Assert.True(float.IsNaN(v)));
    }

    [Fact]
    public void Backward_has_the_same_bits_for_any_workers()
    {
        using var bench = new KernelBench();
        var (tokens, dy) = (Tokens(bench, 301, 11), bench.Rows<BFloat16>(301, 200));
        KernelCheck.SameBitsForAnyWorkers(stream =>
        {
            var dweight = bench.Output<float>(new Shape(11, 200));
            Embedding.Backward(stream, tokens, dy, dweight, false);
            return [KernelCheck.Bits(dweight)];
        });
    }

    [Fact]
    public void Nothing_is_allocated()
    {
        using var bench = new KernelBench();
        var (tokens, weight) = (Tokens(bench, 100, 11), bench.Input<BFloat16>(new Shape(11, 40)));
        var (y, dweight) = (bench.Output<BFloat16>(new Shape(100, 40)), bench.Output<float>(new Shape(11, 40)));
        KernelCheck.AllocatesNothing(stream =>
        {
            Embedding.Forward(stream, tokens, weight, y);
            Embedding.Backward(stream, tokens, y, dweight, false);
        });
    }

    private static void Exact<T>(string device, int count, int vocabulary, int hidden)
        where T : unmanaged
    {
        using var bench = new KernelBench(device);
        var tokens = Tokens(bench, count, vocabulary);
        var weight = bench.Rows<T>(vocabulary, hidden);
        var y = bench.Output<T>(new Shape(count, hidden));
        var (tokens1, y1) = (bench.Put(tokens), bench.Put(y));
        Embedding.Forward(bench.Stream, tokens1, bench.Put(weight), y1);
        bench.Get(y1, y);
        for (var t = 0; t < count; t++)
        {
            Assert.True(weight.Row(tokens.Span[t]).SequenceEqual(y.Row(t)));
        }

        // Multiples of 2^-7 below 1: their sums are exact in float.
        var dy = bench.Input<T>(new Shape(count, hidden));
        var dweight = bench.Output<float>(new Shape(vocabulary, hidden));
        var (dy1, dweight1) = (bench.Put(dy), bench.Put(dweight));
        Embedding.Backward(bench.Stream, tokens1, dy1, dweight1, accumulate: false);
        bench.Get(dweight1, dweight);
        var expected = new double[vocabulary * hidden];
        for (var t = 0; t < count; t++)
        {
            for (var c = 0; c < hidden; c++)
            {
                expected[(tokens.Span[t] * hidden) + c] += Lanes.Get(ref dy.Origin, (nuint)((t * hidden) + c));
            }
        }

        KernelBench.Within(dweight, expected, 0, 0);
        Embedding.Backward(bench.Stream, tokens1, dy1, dweight1, accumulate: true);
        bench.Get(dweight1, dweight);
        KernelBench.Within(dweight, [.. expected.Select(v => 2 * v)], 0, 0);
    }

    private static Tensor<int> Tokens(KernelBench bench, int count, int vocabulary)
    {
        var tokens = new int[count];
        for (var t = 0; t < count; t++)
        {
            tokens[t] = (int)((((long)t * t * 7919) + (t * 31)) % vocabulary);
        }

        return bench.Ints(tokens);
    }
}
