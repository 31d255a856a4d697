using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// token[r] = a draw from softmax(logits[r] / temperature[r]), cut to the topK[r] largest and of those to the fewest whose probability, of the
/// sum of those, reaches topP[r] (nucleus sampling, Holtzman et al. 2020); temperature 0 is <see cref="Argmax"/>.
/// </summary>
/// <remarks>
/// <para>A weight is an integer, w = round(2^s · exp((x − max) / temperature)) with s = min(45, 63 − ⌈log2 V⌉), half rounded up, exp in fp32 as in
/// <see cref="VectorMath"/>. Sums of integers do not depend on their order: CPU and device give the same token. A token whose probability is below
/// 2^-(s + 1) of the largest has weight 0 and is never drawn.</para>
/// <para>Cut: by descending logit, of equals the lower index first. With S the weight of the topK largest, the kept are the fewest whose weight
/// reaches max(1, ⌈topP · S⌉). Draw: u = 64 random bits, a hash of (seed, counter) alone; token = the first kept index whose running weight exceeds
/// ⌊u · W / 2^64⌋, W the weight of the kept.</para>
/// <para>What is not finite: a NaN is never drawn and stands below −∞; a row of NaN and −∞ gives 0, except that temperature 0 gives what Argmax gives;
/// where there is a +∞, each +∞ has weight 1 and all else 0.</para>
/// </remarks>
public static partial class Sample
{
    // Beyond it a weight is 0: 2^45 · e^-32 < 0.45.
    private const float Lowest = -32f;

    // exp as in VectorMath, which says where these come from; native/kernels/Sample.cu has them too.
    private const float Log2E = 1.442695f, Ln2 = 0.6931472f, Ln2Rest = -1.9046542e-9f, Shifter = 12582912f;
    private const float C2 = 0.5f, C3 = 0.16666576f, C4 = 0.041666556f, C5 = 0.008363203f, C6 = 0.0013926213f;

    /// <summary>Draws one token per row.</summary>
    /// <param name="stream">where it runs; a CPU stream checks the rules, for a device whoever uploads them calls <see cref="CheckRules"/></param>
    /// <param name="logits">[R, V], only read</param>
    /// <param name="temperature">[R] finite, at least 0; 0 is greedy</param>
    /// <param name="topP">[R] in [0, 1]; 1 keeps all, 0 keeps one</param>
    /// <param name="topK">[R] at least 0; 0 keeps all</param>
    /// <param name="seed">[R] one for each sequence</param>
    /// <param name="counter">[R] another for each draw of a sequence</param>
    /// <param name="token">[R] written</param>
    /// <exception cref="ArgumentOutOfRangeException">a rule outside its range; nothing has been written</exception>
    public static void Forward<T>(
        ComputeStream stream, Tensor<T> logits, Tensor<float> temperature, Tensor<float> topP, Tensor<int> topK, Tensor<ulong> seed, Tensor<int> counter,
        Tensor<int> token)
        where T : unmanaged
    {
        var rows = logits.Shape[0];
        Expect.Shape(logits, rows, logits.Shape[1]);
        Expect.That(logits.Shape[1] > 0, "logits must have at least one column");
        Expect.Shape(temperature, rows);
        Expect.Shape(topP, rows);
        Expect.Shape(topK, rows);
        Expect.Shape(seed, rows);
        Expect.Shape(counter, rows);
        Expect.Shape(token, rows);
        if (stream is CpuStream cpu)
        {
            CheckRules(temperature.Span, topP.Span, topK.Span);
            ForwardCpu(cpu, logits, temperature, topP, topK, seed, counter, token);
        }
        else if (stream is CudaStream cuda)
        {
            ForwardCuda(cuda, logits, temperature, topP, topK, seed, counter, token);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Refuses rules that mean nothing.</summary>
    /// <param name="temperature">each finite and at least 0</param>
    /// <param name="topP">as many, each in [0, 1]</param>
    /// <param name="topK">as many, each at least 0</param>
    /// <exception cref="ArgumentOutOfRangeException">names the first row that is wrong</exception>
    public static void CheckRules(ReadOnlySpan<float> temperature, ReadOnlySpan<float> topP, ReadOnlySpan<int> topK)
    {
        Expect.That(topP.Length == temperature.Length && topK.Length == temperature.Length, "temperature, topP and topK must be equally many");
        for (var r = 0; r < temperature.Length; r++)
        {
            if (!(temperature[r] >= 0 && float.IsFinite(temperature[r])))
            {
                throw new ArgumentOutOfRangeException(nameof(temperature), $"the temperature of row {r} is {temperature[r]}; it must be finite and at least 0");
            }

            if (!(topP[r] >= 0 && topP[r] <= 1))
            {
                throw new ArgumentOutOfRangeException(nameof(topP), $"topP of row {r} is {topP[r]}; it must be in [0, 1]");
            }

            if (topK[r] < 0)
            {
                throw new ArgumentOutOfRangeException(nameof(topK), $"topK of row {r} is {topK[r]}; it must be at least 0 (0 keeps all)");
            }
        }
    }

    /// <summary>The logits are read once, with a subtraction, a division, eight fma and a sum each; 32 bytes of rules and token per row.</summary>
    public static Cost ForwardCost<T>(long rows, long columns)
        where T : unmanaged => new((rows * columns * Unsafe.SizeOf<T>()) + (32 * rows), 19 * rows * columns);

    /// <summary>s of the weights: the sum of V of them stays within 2^63.</summary>
    internal static int ScaleOf(int columns) => Math.Min(45, 63 - (32 - int.LeadingZeroCount(columns - 1)));

    /// <summary>w of one logit.</summary>
    /// <param name="value">x</param>
    /// <param name="top">the largest of the row, above −∞</param>
    /// <param name="temperature">above 0</param>
    /// <param name="scale">s</param>
    internal static ulong Weight(float value, float top, float temperature, int scale)
    {
        if (top == float.PositiveInfinity)
        {
            return value == top ? 1u : 0u;
        }

        var x = (value - top) / temperature;
        if (!(x > Lowest))                                                   // a NaN and −∞ too
        {
            return 0;
        }

        var shifted = MathF.FusedMultiplyAdd(x, Log2E, Shifter);
        var n = shifted - Shifter;
        var r = MathF.FusedMultiplyAdd(n, -Ln2, x);
        r = MathF.FusedMultiplyAdd(n, -Ln2Rest, r);
        var p = MathF.FusedMultiplyAdd(C6, r, C5);
        p = MathF.FusedMultiplyAdd(p, r, C4);
        p = MathF.FusedMultiplyAdd(p, r, C3);
        p = MathF.FusedMultiplyAdd(p, r, C2);
        p = MathF.FusedMultiplyAdd(p, r, 1f);
        p = MathF.FusedMultiplyAdd(p, r, 1f);

        // p = mantissa · 2^(exponent − 150), so w = mantissa · 2^shift.
        var bits = BitConverter.SingleToUInt32Bits(p);
        var mantissa = (ulong)((bits & 0x7FFFFF) | 0x800000);
        var shift = (int)(bits >> 23) - 150 + scale + (int)n;
        return shift >= 0 ? mantissa << shift : (mantissa + (1UL << (-shift - 1))) >> -shift;
    }

    /// <summary>max(1, ⌈p · total⌉), exactly.</summary>
    /// <param name="p">in [0, 1)</param>
    /// <param name="total">at most 2^63</param>
    internal static ulong Target(float p, ulong total)
    {
        // p = mantissa · 2^-right; mantissa · total is below 2^87. A subnormal p gives less than 1.
        var bits = BitConverter.SingleToUInt32Bits(p);
        var right = 150 - (int)(bits >> 23);
        if (right >= 88)
        {
            return 1;
        }

        var high = Math.BigMul((bits & 0x7FFFFF) | 0x800000UL, total, out var low);
        var (whole, rest) = right >= 64
            ? (high >> (right - 64), low | (high & ((1UL << (right - 64)) - 1)))
            : ((high << (64 - right)) | (low >> right), low & ((1UL << right) - 1));
        return Math.Max(1, whole + (rest != 0 ? 1u : 0u));
    }

    /// <summary>⌊u · total / 2^64⌋ with u the random bits of (seed, counter).</summary>
    internal static ulong Draw(ulong seed, int counter, ulong total) => Math.BigMul(StochasticRounding.Key(seed, counter), total, out _);
}
