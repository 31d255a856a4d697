using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Xunit;
using Z1Coder.Kernels;

namespace Z1Coder.Tests.Kernels;

public sealed class VectorMathTests
{
    [Fact]
    public void Exp_is_within_2_ulp_over_the_whole_range()
    {
        var worst = 0.0;
        ForEachBatch(x =>
        {
            var y = VectorMath.Exp(x);
            for (var lane = 0; lane < 16; lane++)
            {
                var exact = Math.Exp(x[lane]);
                var value = (double)y[lane];
                if (exact > float.MaxValue)
                {
                    // the largest float exceeded by less than half its spacing may round either way
                    Assert.True(value >= float.MaxValue, $"exp({x[lane]:R}) is {value:R}");
                    continue;
                }

                var spacing = Math.ScaleB(1, Math.Max(exact == 0 ? -200 : Math.ILogB(exact), -126) - 23);
                var error = Math.Abs(value - exact) / spacing;
                Assert.True(error <= 2, $"exp({x[lane]:R}) is {value:R}, off by {error:F2} ulp");
                worst = Math.Max(worst, error);
            }
        });
        TestContext.Current.SendDiagnosticMessage($"worst error of exp: {worst:F3} ulp");
    }

    [Theory]
    [InlineData(0f, 1f)]
    [InlineData(float.NegativeInfinity, 0f)]
    [InlineData(float.MinValue, 0f)]
    [InlineData(-103.98f, 0f)]
    [InlineData(-103.97f, float.Epsilon)]
    [InlineData(-103.0f, float.Epsilon)]
    [InlineData(float.Epsilon, 1f)]
    [InlineData(-float.Epsilon, 1f)]
    [InlineData(88.73f, float.PositiveInfinity)]
    [InlineData(float.MaxValue, float.PositiveInfinity)]
    [InlineData(float.PositiveInfinity, float.PositiveInfinity)]
    public void Exp_at_the_edges(float x, float expected)
    {
        Assert.Equal(Vector512.Create(expected), VectorMath.Exp(Vector512.Create(x)));
        if (x <= 0)
        {
            Assert.Equal(Vector512.Create(expected), VectorMath.ExpOfNonPositive(Vector512.Create(x)));
        }
    }

    [Fact]
    public void Exp_keeps_nan_in_its_lane()
    {
        for (var lane = 0; lane < 16; lane++)
        {
            foreach (var nan in (float[])[float.NaN, -float.NaN, BitConverter.UInt32BitsToSingle(0x7F800001)])
            {
                var y = VectorMath.Exp(Vector512.WithElement(Vector512<float>.Zero, lane, nan));
                for (var other = 0; other < 16; other++)
                {
                    Assert.Equal(other == lane, float.IsNaN(y[other]));
                }

                Assert.True(float.IsNaN(VectorMath.ExpOfNonPositive(Vector512.WithElement(Vector512<float>.Zero, lane, nan))[lane]));
            }
        }
    }

    /// <summary>The constant is what AVX-512 gave; the suite is run again with narrower instruction sets and must agree (DOTNET_EnableAVX512=0, EnableAVX2=0).</summary>
    [Fact]
    public void Exp_has_the_same_bits_on_every_instruction_set()
    {
        var hash = 14695981039346656037UL;
        ForEachBatch(x =>
        {
            var y = VectorMath.Exp(x).AsUInt32();
            for (var lane = 0; lane < 16; lane++)
            {
                hash = unchecked((hash ^ y[lane]) * 1099511628211UL);
                if (x[lane] <= 0)
                {
                    Assert.Equal(y[lane], VectorMath.ExpOfNonPositive(x).AsUInt32()[lane]);
                }
            }
        });
        Assert.Equal(12777457002458642591UL, hash);
    }

    [Fact]
    public void Scaling_in_two_steps_is_vscalefps()
    {
        if (!Avx512F.IsSupported)
        {
            Assert.Skip("needs AVX-512");
        }

        for (var n = -151; n <= 129; n++)
        {
            var p = Vector512.Create(0.70703125f) + (Vector512.ConvertToSingle(Vector512.Create(n)) * 1e-7f)
                + (Vector512.Create(0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) * 0.0471f);
            var halves = Vector512.Create(
                VectorMath.ScaleInTwoSteps(p.GetLower(), Vector256.Create(n)), VectorMath.ScaleInTwoSteps(p.GetUpper(), Vector256.Create(n)));
            Assert.Equal(Avx512F.Scale(p, Vector512.Create((float)n)), halves);
        }
    }

    [Fact]
    public void Sum_and_max_see_every_lane()
    {
        for (var lane = 0; lane < 16; lane++)
        {
            var one = Vector512.WithElement(Vector512.Create(-3f), lane, 5f);
            Assert.Equal(5f - 45f, VectorMath.Sum(one));
            Assert.Equal(5f, VectorMath.Max(one));
            var wide = Vector512.WithElement(Vector512.Create(-3d), lane % 8, 5d);
            Assert.Equal(5d - 21d, VectorMath.Sum(wide));
        }
    }

    /// <summary>About two million arguments: every exponent and sign, mantissas in steps of a prime.</summary>
    private static void ForEachBatch(Action<Vector512<float>> body)
    {
        Span<float> batch = stackalloc float[16];
        var filled = 0;
        for (var bits = 0L; bits <= uint.MaxValue; bits += 2039)
        {
            var value = BitConverter.UInt32BitsToSingle((uint)bits);
            if (float.IsNaN(value))
            {
                continue;
            }

            batch[filled++] = value;
            if (filled == 16)
            {
                body(Vector512.Create<float>(batch));
                filled = 0;
            }
        }
    }
}
