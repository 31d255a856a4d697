using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>C = A·B in double, and Σ|a||b| for the bound; strides in elements.</summary>
internal sealed class MatmulOracle
{
    private readonly double[] _sums, _magnitudes;
    private readonly int _n, _k;

    public MatmulOracle(double[] a, double[] b, int m, int n, int k, int aRow, int aColumn, int bRow, int bColumn)
    {
        (_n, _k) = (n, k);
        (_sums, _magnitudes) = (new double[m * n], new double[m * n]);
        for (var i = 0; i < m; i++)
        {
            for (var p = 0; p < k; p++)
            {
                var value = a[(i * aRow) + (p * aColumn)];
                for (var j = 0; j < n; j++)
                {
                    var product = value * b[(p * bRow) + (j * bColumn)];
                    _sums[(i * n) + j] += product;
                    _magnitudes[(i * n) + j] += Math.Abs(product);
                }
            }
        }
    }

    /// <summary>Relative error of one correct rounding: 24 bits of significand, or 8.</summary>
    private static double Rounding<T>() => Math.ScaleB(1, typeof(T) == typeof(float) ? -24 : -8);

    /// <summary>
    /// At most K + 2 roundings of partial sums that are each at most Σ|a||b| + |bias| + |old|, in fp32; then one rounding to T.
    /// </summary>
    public void Compare<T>(Tensor<T> actual, double[]? accumulated, double[]? bias)
        where T : unmanaged
    {
        Assert.Equal(_sums.Length, actual.Count);
        double error = 0, norm = 0;
        for (var i = 0; i < _sums.Length; i++)
        {
            var old = accumulated is null ? 0 : accumulated[i];
            var shift = bias is null ? 0 : bias[i % _n];
            var expected = _sums[i] + old + shift;
            var bound = ((_k + 2) * KernelBench.Ulp<float>() * (_magnitudes[i] + Math.Abs(old) + Math.Abs(shift)))
                + (Rounding<T>() * Math.Abs(expected) * 1.01);
            double value = Lanes.Get(ref actual.Origin, (nuint)i);
            if (!(Math.Abs(value - expected) <= bound))
            {
                Assert.Fail($"[{i / _n}, {i % _n}] of {actual.Shape}, K = {_k}: {value:R}, expected {expected:R} within {bound:E2}");
            }

            error += (value - expected) * (value - expected);
            norm += expected * expected;
        }

        // the errors of single elements are independent: a systematic one shows here long before it reaches its own bound
        Assert.True(
            _sums.Length < 64 || error <= Math.Pow(typeof(T) == typeof(float) ? 1e-6 : 2.5e-3, 2) * norm,
            $"differs by {Math.Sqrt(error / norm):E2} of its norm");
    }
}
