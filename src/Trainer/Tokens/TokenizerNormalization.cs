using System.Globalization;

namespace Z1Coder.Trainer.Tokens;

/// <summary>
/// Normalization Form C (Unicode Standard Annex 15). Own code, because string.Normalize returns its input unchanged under
/// InvariantGlobalization. One instance per thread: it keeps its buffers.
/// </summary>
internal sealed class TokenizerNormalization
{
    private const int HangulBase = 0xAC00, HangulCount = 11172;
    private const int LeadBase = 0x1100, LeadCount = 19;
    private const int VowelBase = 0x1161, VowelCount = 21;
    private const int TailBase = 0x11A7, TailCount = 28;      // TailBase itself stands for "no tail"
    private const char FirstCombining = '\u0300';             // everything below is its own NFC

    private static readonly Tables s_tables = new();

    private int[] _points = new int[256];
    private ulong[] _order = new ulong[64];
    private char[] _result = new char[256];

    /// <summary>True when <paramref name="text"/> is surely NFC already: no character in it can change, alone or beside others.</summary>
    public static bool IsCertainlyComposed(ReadOnlySpan<char> text)
    {
        var at = text.IndexOfAnyExceptInRange('\0', (char)(FirstCombining - 1));
        if (at < 0)
        {
            return true;
        }

        var attention = s_tables.Attention;
        for (var i = at; i < text.Length; i++)
        {
            var c = text[i];
            if ((attention[c >> 6] >> (c & 63) & 1) != 0)
            {
                return false;
            }

            if (char.IsHighSurrogate(c) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]))
            {
                if (s_tables.AstralAttention.Contains(char.ConvertToUtf32(c, text[++i])))
                {
                    return false;
                }
            }
        }

        return true;
    }

    /// <summary>The NFC of <paramref name="text"/>, in a buffer that the next call overwrites. Lone surrogates stay.</summary>
    public ReadOnlySpan<char> Compose(ReadOnlySpan<char> text)
    {
        var count = Decompose(text);
        Reorder(_points.AsSpan(0, count));
        count = Recompose(_points.AsSpan(0, count));
        return Write(_points.AsSpan(0, count));
    }

    private int Decompose(ReadOnlySpan<char> text)
    {
        var count = 0;
        for (var i = 0; i < text.Length; i++)
        {
            int point = text[i];
            if (char.IsHighSurrogate((char)point) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]))
            {
                point = char.ConvertToUtf32((char)point, text[++i]);
            }

            if (_points.Length < count + 8)                   // no canonical decomposition is longer than four characters
            {
                Array.Resize(ref _points, _points.Length * 2);
            }

            Decompose(point, ref count);
        }

        return count;
    }

    private void Decompose(int point, ref int count)
    {
        if (point < 0xC0)
        {
            _points[count++] = point;
        }
        else if ((uint)(point - HangulBase) < HangulCount)
        {
            var syllable = point - HangulBase;
            _points[count++] = LeadBase + (syllable / (VowelCount * TailCount));
            _points[count++] = VowelBase + (syllable % (VowelCount * TailCount) / TailCount);
            if (syllable % TailCount != 0)
            {
                _points[count++] = TailBase + (syllable % TailCount);
            }
        }
        else if (s_tables.Decomposition.TryGetValue(point, out var pair))
        {
            Decompose((int)(pair >> 32), ref count);
            if ((int)pair != 0)
            {
                Decompose((int)pair, ref count);
            }
        }
        else
        {
            _points[count++] = point;
        }
    }

    /// <summary>Sorts each run of combining marks by class, keeping the order of equals.</summary>
    private void Reorder(Span<int> points)
    {
        for (var i = 0; i < points.Length; i++)
        {
            if (ClassOf(points[i]) == 0)
            {
                continue;
            }

            var start = i;
            var sorted = true;
            var last = 0;
            for (; i < points.Length && ClassOf(points[i]) is var c and not 0; i++)
            {
                sorted &= c >= last;
                last = c;
            }

            if (sorted)
            {
                continue;
            }

            var run = points[start..i];
            if (_order.Length < run.Length)
            {
                _order = new ulong[run.Length * 2];
            }

            for (var j = 0; j < run.Length; j++)
            {
                // class, then position, then the character: one sort of numbers is a stable sort by class
                _order[j] = ((ulong)ClassOf(run[j]) << 56) | ((ulong)(uint)j << 21) | (uint)run[j];
            }

            _order.AsSpan(0, run.Length).Sort();
            for (var j = 0; j < run.Length; j++)
            {
                run[j] = (int)(_order[j] & 0x1FFFFF);
            }
        }
    }

    private static int Recompose(Span<int> points)
    {
        var starter = -1;
        var lastClass = -1;                                    // -1: nothing stands between the starter and this character
        var count = 0;
        foreach (var point in points)
        {
            var c = ClassOf(point);
            if (starter >= 0 && lastClass < c && Pair(points[starter], point) is var composed and not 0)
            {
                points[starter] = composed;
                continue;
            }

            if (c == 0)
            {
                starter = count;
                lastClass = -1;
            }
            else
            {
                lastClass = c;
            }

            points[count++] = point;
        }

        return count;
    }

    private static int Pair(int first, int second)
    {
        if ((uint)(first - LeadBase) < LeadCount && (uint)(second - VowelBase) < VowelCount)
        {
            return HangulBase + ((((first - LeadBase) * VowelCount) + second - VowelBase) * TailCount);
        }

        if ((uint)(first - HangulBase) < HangulCount && (first - HangulBase) % TailCount == 0
            && second > TailBase && second < TailBase + TailCount)
        {
            return first + second - TailBase;
        }

        return s_tables.Composition.GetValueOrDefault(((long)first << 32) | (uint)second);
    }

    private static int ClassOf(int point) =>
        point < FirstCombining ? 0 : s_tables.CombiningClass.GetValueOrDefault(point);

    private ReadOnlySpan<char> Write(ReadOnlySpan<int> points)
    {
        if (_result.Length < points.Length * 2)
        {
            _result = new char[points.Length * 2];
        }

        var count = 0;
        foreach (var point in points)
        {
            if (point < 0x10000)
            {
                _result[count++] = (char)point;
            }
            else
            {
                _result[count++] = (char)(0xD7C0 + (point >> 10));
                _result[count++] = (char)(0xDC00 + (point & 0x3FF));
            }
        }

        return _result.AsSpan(0, count);
    }

    private sealed class Tables
    {
        public Tables()
        {
            ParseDecompositions();
            ParseClasses();
            for (var vowel = VowelBase; vowel < VowelBase + VowelCount; vowel++)
            {
                Attend(vowel);
            }

            for (var tail = TailBase + 1; tail < TailBase + TailCount; tail++)
            {
                Attend(tail);
            }
        }

        /// <summary>Character to (first &lt;&lt; 32 | second); second is 0 where the decomposition is one character.</summary>
        public Dictionary<int, long> Decomposition { get; } = new(2100);

        /// <summary>(first &lt;&lt; 32 | second) to the composed character.</summary>
        public Dictionary<long, int> Composition { get; } = new(1000);

        public Dictionary<int, byte> CombiningClass { get; } = new(1000);

        /// <summary>One bit per BMP character that a fast check cannot pass: NFC quick check No or Maybe, or a combining class.</summary>
        public ulong[] Attention { get; } = new ulong[0x10000 / 64];

        public HashSet<int> AstralAttention { get; } = [];

        private static int Hex(ReadOnlySpan<char> digits) => int.Parse(digits, NumberStyles.AllowHexSpecifier);

        private void Attend(int point)
        {
            if (point < 0x10000)
            {
                Attention[point >> 6] |= 1UL << (point & 63);
            }
            else
            {
                AstralAttention.Add(point);
            }
        }

        private void ParseDecompositions()
        {
            var point = 0;
            var table = TokenizerNormalizationTables.Decompositions.AsSpan();
            foreach (var range in table.SplitAny(' ', '\n', '\r'))
            {
                var entry = table[range];
                if (entry.IsEmpty)
                {
                    continue;
                }

                point++;
                var equals = entry.IndexOf('=');
                if (equals >= 0)
                {
                    point = Hex(entry[..equals]);
                    entry = entry[(equals + 1)..];
                }

                var excluded = entry[^1] == '!';
                entry = excluded ? entry[..^1] : entry;
                var plus = entry.IndexOf('+');
                var first = Hex(plus < 0 ? entry : entry[..plus]);
                var second = plus < 0 ? 0 : Hex(entry[(plus + 1)..]);
                var pair = ((long)first << 32) | (uint)second;
                Decomposition.Add(point, pair);
                if (excluded)
                {
                    Attend(point);
                }
                else
                {
                    Composition.Add(pair, point);
                    Attend(second);
                }
            }
        }

        private void ParseClasses()
        {
            var table = TokenizerNormalizationTables.CombiningClasses.AsSpan();
            foreach (var range in table.SplitAny(' ', '\n', '\r'))
            {
                var entry = table[range];
                if (entry.IsEmpty)
                {
                    continue;
                }

                var colon = entry.IndexOf(':');
                var dash = entry.IndexOf('-');
                var first = Hex(entry[..(dash < 0 ? colon : dash)]);
                var last = dash < 0 ? first : Hex(entry[(dash + 1)..colon]);
                for (var point = first; point <= last; point++)
                {
                    CombiningClass.Add(point, byte.Parse(entry[(colon + 1)..]));
                    Attend(point);
                }
            }
        }
    }
}
