using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

public sealed class EmbeddingTests
{
    [Theory]
    [InlineData(1, 1, 1)]
    [InlineData(7, 5, 17)]
    [InlineData(97, 31, 63)]
    [InlineData(130, 40, 65)]
    [InlineData(1280, 300, 896)]
    public void Forward_and_backward_are_exact(int tokens, int vocabulary, int hidden)
    {
        Exact<float>(tokens, vocabulary, hidden);
        Exact<BFloat16>(tokens, vocabulary, hidden);
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

    private static void Exact<T>(int count, int vocabulary, int hidden)
        where T : unmanaged
    {
        using var bench = new KernelBench();
        var tokens = Tokens(bench, count, vocabulary);
        var weight = bench.Rows<T>(vocabulary, hidden);
        var y = bench.Output<T>(new Shape(count, hidden));
        Embedding.Forward(bench.Stream, tokens, weight, y);
        for (var t = 0; t < count; t++)
        {
            Assert.True(weight.Row(tokens.Span[t]).SequenceEqual(y.Row(t)));
        }

        // Multiples of 2^-7 below 1: their sums are exact in float.
        var dy = bench.Input<T>(new Shape(count, hidden));
        var dweight = bench.Output<float>(new Shape(vocabulary, hidden));
        Embedding.Backward(bench.Stream, tokens, dy, dweight, accumulate: false);
        var expected = new double[vocabulary * hidden];
        for (var t = 0; t < count; t++)
        {
            for (var c = 0; c < hidden; c++)
            {
                expected[(tokens.Span[t] * hidden) + c] += Lanes.Get(ref dy.Origin, (nuint)((t * hidden) + c));
            }
        }

        KernelBench.Within(dweight, expected, 0, 0);
        Embedding.Backward(bench.Stream, tokens, dy, dweight, accumulate: true);
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
