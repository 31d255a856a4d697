using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

public static partial class Sample
{
    private static void ForwardCpu<T>(
        CpuStream stream, Tensor<T> logits, Tensor<float> temperature, Tensor<float> topP, Tensor<int> topK, Tensor<ulong> seed, Tensor<int> counter,
        Tensor<int> token)
        where T : unmanaged =>
        stream.For(
            logits.Shape[0],
            1,
            new Job<T>(logits, temperature, topP, topK, seed, counter, token, Scratch.Of<ulong>(stream, stream.Workers, logits.Shape[1])));

    /// <summary>Where a cut falls: kept are the keys above Key and the first Ties elements that have it.</summary>
    private readonly record struct Cut(uint Key, ulong Above, ulong Ties);

    private readonly struct Job<T>(
        Tensor<T> logits, Tensor<float> temperature, Tensor<float> topP, Tensor<int> topK, Tensor<ulong> seed, Tensor<int> counter, Tensor<int> token,
        Tensor<ulong> weights) : ICpuJob
        where T : unmanaged
    {
        // The key of a bfloat16 is the upper half of that of the float.
        private static int Unused => typeof(T) == typeof(float) ? 0 : 16;

        public void Run(int begin, int end, int worker)
        {
            for (var r = begin; r < end; r++)
            {
                token.Span[r] = Row(r, weights.Row(worker));
            }
        }

        private int Row(int r, Span<ulong> w)
        {
            var columns = logits.Shape[1];
            ref var row = ref Unsafe.Add(ref logits.Origin, (nint)r * columns);
            var (heat, p, k) = (temperature.Span[r], topP.Span[r], topK.Span[r]);
            var best = Argmax.OfRow(ref row, columns);
            if (heat == 0)
            {
                return best;
            }

            var top = Lanes.Get(ref row, (nuint)best);
            if (!(top > float.NegativeInfinity))
            {
                return 0;
            }

            var (scale, total) = (ScaleOf(columns), 0UL);
            var cut = k > 0 && k < columns ? Find(ref row, w, counted: true, (ulong)k) : new Cut(0, 0, ulong.MaxValue);
            var ties = cut.Ties;
            for (var i = 0; i < columns; i++)
            {
                var value = Lanes.Get(ref row, (nuint)i);
                w[i] = Keeps(cut.Key, ref ties, KeyOf(value)) ? Weight(value, top, heat, scale) : 0;
                total += w[i];
            }

            // What topK left out has weight 0 here, and topP never goes below its threshold.
            if (p < 1)
            {
                var target = Target(p, total);
                cut = Find(ref row, w, counted: false, target);
                var each = Weight(ValueOf(cut.Key), top, heat, scale);
                var needed = (target - cut.Above + each - 1) / each;
                cut = cut with { Ties = needed };
                total = cut.Above + (needed * each);
            }

            var left = Draw(seed.Span[r], counter.Span[r], total);
            ties = cut.Ties;
            for (var i = 0; i < columns; i++)
            {
                if (Keeps(cut.Key, ref ties, KeyOf(Lanes.Get(ref row, (nuint)i))))
                {
                    if (left < w[i])
                    {
                        return i;
                    }

                    left -= w[i];
                }
            }

            throw new InvalidOperationException($"row {r}: the kept weights do not add up to {total}");
        }

        /// <summary>The largest key at which the sum over all keys not below it reaches the target: eight bits at a time from the top. Each element
        /// counts 1, or its weight.</summary>
        private static Cut Find(ref T row, ReadOnlySpan<ulong> w, bool counted, ulong target)
        {
            Span<ulong> sums = stackalloc ulong[256];
            var (prefix, above) = (0UL, 0UL);
            for (var shift = 24 - Unused; shift >= 0; shift -= 8)
            {
                sums.Clear();
                for (var i = 0; i < w.Length; i++)
                {
                    var key = (ulong)KeyOf(Lanes.Get(ref row, (nuint)i)) >> shift;
                    if (key >> 8 == prefix)
                    {
                        sums[(int)(key & 255)] += counted ? 1 : w[i];
                    }
                }

                var bin = 255;
                for (; bin > 0 && above + sums[bin] < target; bin--)
                {
                    above += sums[bin];
                }

                prefix = (prefix << 8) | (uint)bin;
            }

            return new Cut((uint)prefix, above, target - above);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static bool Keeps(uint threshold, ref ulong ties, uint key)
        {
            if (key != threshold)
            {
                return key > threshold;
            }

            if (ties == 0)
            {
                return false;
            }

            ties--;
            return true;
        }

        /// <summary>Ordered as the values are: −0 is +0, a NaN is below all.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static uint KeyOf(float value)
        {
            var bits = value == 0 ? 0 : BitConverter.SingleToUInt32Bits(value);
            var key = (int)bits < 0 ? ~bits : bits | 0x80000000;
            return float.IsNaN(value) ? 0 : key >> Unused;
        }

        /// <summary>The value of a key that is not a NaN's.</summary>
        private static float ValueOf(uint key)
        {
            var bits = key << Unused;
            return BitConverter.UInt32BitsToSingle((int)bits < 0 ? bits & 0x7FFFFFFF : ~bits & (uint.MaxValue << Unused));
        }
    }
}
