using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Z1Coder.Kernels;

public static partial class Sample
{
    /// <summary>
    /// A row of bfloat16 by counting: equal logits have equal weights, and there are 65,536 of them. One pass counts; exponentials, sums and cuts
    /// are those of the values that occur, from the largest down to weight 0; one more pass, to the token, adds up weights looked up.
    /// </summary>
    private static class Bins
    {
        private const int Count = 1 << 16;
        private const uint MinusZero = 0x8000;

        /// <summary>Of a worker, in 64-bit words: a weight and a 32-bit count for each value.</summary>
        public const int Scratch = Count + (Count / 2);

        public static int Draw(ReadOnlySpan<ushort> row, uint top, Span<ulong> memory, in Rule rule)
        {
            ref var weights = ref MemoryMarshal.GetReference(memory);
            var counts = MemoryMarshal.Cast<ulong, uint>(memory[Count..]);
            memory.Clear();
            Tally(row, ref MemoryMarshal.GetReference(counts));
            counts[0] += counts[(int)MinusZero];
            counts[(int)MinusZero] = 0;

            // The k largest: total is their weight, the last value that counts has ties elements.
            var (first, last) = (OrderOf(top == MinusZero ? 0 : top), 0u);
            var (total, left, ties) = (0UL, rule.TopK > 0 ? (ulong)rule.TopK : ulong.MaxValue, 0UL);
            for (var order = first; left > 0 && order < Count; order++)
            {
                var bits = BitsOf(order);
                if (counts[(int)bits] == 0)
                {
                    continue;
                }

                var weight = rule.WeightOf(ValueOf(bits));
                if (weight == 0)
                {
                    break;
                }

                ties = Math.Min(left, counts[(int)bits]);
                (last, left) = (order, left - ties);
                Unsafe.Add(ref weights, bits) = weight;
                total += weight * ties;
            }

            // Of those the fewest that reach topP of it.
            if (rule.TopP < 1)
            {
                var (target, above, order) = (Target(rule.TopP, total), 0UL, first);
                while (true)
                {
                    var bits = BitsOf(order);
                    var weight = Unsafe.Add(ref weights, bits);
                    if (above + (weight * counts[(int)bits]) >= target || order == last)
                    {
                        ties = (target - above + weight - 1) / weight;
                        total = above + (weight * ties);
                        break;
                    }

                    above += weight * counts[(int)bits];
                    order++;
                }

                for (; last > order; last--)
                {
                    Unsafe.Add(ref weights, BitsOf(last)) = 0;
                }
            }

            Unsafe.Add(ref weights, MinusZero) = weights;
            return Find(row, ref weights, BitsOf(last), ties, rule.Draw(total));
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static void Tally(ReadOnlySpan<ushort> row, ref uint counts)
        {
            foreach (var bits in row)
            {
                Unsafe.Add(ref counts, (nuint)bits)++;
            }
        }

        /// <summary>The index at which the running weight exceeds <paramref name="left"/>; of the elements that are <paramref name="last"/> only the
        /// first <paramref name="ties"/> count.</summary>
        [MethodImpl(MethodImplOptions.NoInlining)]
        private static int Find(ReadOnlySpan<ushort> row, ref ulong weights, uint last, ulong ties, ulong left)
        {
            var other = last == 0 ? MinusZero : last;
            for (var i = 0; i < row.Length; i++)
            {
                var bits = (uint)row[i];
                var weight = Unsafe.Add(ref weights, bits);
                if (left >= weight)
                {
                    left -= weight;
                    if ((bits == last || bits == other) && --ties == 0)
                    {
                        Unsafe.Add(ref weights, last) = 0;
                        Unsafe.Add(ref weights, other) = 0;
                    }
                }
                else
                {
                    return i;
                }
            }

            throw new InvalidOperationException("the kept weights do not add up");
        }

        /// <summary>0 for the largest value, larger for smaller ones; −0 is where it can be, but its elements are counted as +0's.</summary>
        private static uint OrderOf(uint bits) => bits < MinusZero ? MinusZero - 1 - bits : bits;

        private static uint BitsOf(uint order) => order < MinusZero ? MinusZero - 1 - order : order;

        private static float ValueOf(uint bits) => BitConverter.UInt32BitsToSingle(bits << 16);
    }
}
