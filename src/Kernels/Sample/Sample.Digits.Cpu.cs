namespace Z1Coder.Kernels;

public static partial class Sample
{
    /// <summary>A row of fp32: all its weights, then cuts by keys that are ordered as the values are, eight bits at a time.</summary>
    private static class Digits
    {
        /// <summary>Where a cut falls: kept are the keys above Key and the first Ties elements that have it.</summary>
        private readonly record struct Cut(uint Key, ulong Above, ulong Ties);

        public static int Draw(ReadOnlySpan<float> row, Span<ulong> weights, in Rule rule)
        {
            var w = weights[..row.Length];
            var total = 0UL;
            var cut = rule.TopK > 0 && rule.TopK < row.Length ? Find(row, w, counted: true, (ulong)rule.TopK) : new Cut(0, 0, ulong.MaxValue);
            var ties = cut.Ties;
            for (var i = 0; i < row.Length; i++)
            {
                w[i] = Keeps(cut.Key, ref ties, KeyOf(row[i])) ? rule.WeightOf(row[i]) : 0;
                total += w[i];
            }

            // What topK left out has weight 0 here, and topP never goes below its threshold.
            if (rule.TopP < 1)
            {
                var target = Target(rule.TopP, total);
                cut = Find(row, w, counted: false, target);
                var each = rule.WeightOf(ValueOf(cut.Key));
                var needed = (target - cut.Above + each - 1) / each;
                cut = cut with { Ties = needed };
                total = cut.Above + (needed * each);
            }

            var left = rule.Draw(total);
            ties = cut.Ties;
            for (var i = 0; i < row.Length; i++)
            {
                if (Keeps(cut.Key, ref ties, KeyOf(row[i])))
                {
                    if (left < w[i])
                    {
                        return i;
                    }

                    left -= w[i];
                }
            }

            throw new InvalidOperationException("the kept weights do not add up");
        }

        /// <summary>The largest key at which the sum over all keys not below it reaches the target. Each element counts 1, or its weight.</summary>
        private static Cut Find(ReadOnlySpan<float> row, ReadOnlySpan<ulong> w, bool counted, ulong target)
        {
            Span<ulong> sums = stackalloc ulong[256];
            var (prefix, above) = (0UL, 0UL);
            for (var shift = 24; shift >= 0; shift -= 8)
            {
                sums.Clear();
                for (var i = 0; i < w.Length; i++)
                {
                    var key = (ulong)KeyOf(row[i]) >> shift;
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
        private static uint KeyOf(float value)
        {
            var bits = value == 0 ? 0 : BitConverter.SingleToUInt32Bits(value);
            return float.IsNaN(value) ? 0 : (int)bits < 0 ? ~bits : bits | 0x80000000;
        }

        /// <summary>The value of a key that is not a NaN's.</summary>
        private static float ValueOf(uint key) => BitConverter.UInt32BitsToSingle((int)key < 0 ? key & 0x7FFFFFFF : ~key);
    }
}
